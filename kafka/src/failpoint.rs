//! Places in a transaction at which a test lets the process die. Only with the feature
//! `failpoints`, which nothing that is shipped turns on; without it a [`Failpoints`] is
//! nothing, and its calls are gone.
//!
//! `KSCHED_FAILPOINT` names a file. While that holds `JOB POINT N`, such as
//! `drain after-produce 3`, whoever is the Nth of its process to pass there removes the
//! file, so that it is the only one, and aborts.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("failpoints are for tests: build the products, not the workspace");

/// Where in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Records are read, nothing is begun.
    AfterRead,
    /// All records are acknowledged; positions are on their way.
    AfterProduce,
    AfterOffsets,
    /// The request to commit is on its way.
    InsideCommit,
    AfterCommit,
}

#[cfg(feature = "failpoints")]
pub(crate) use on::Failpoints;

/// Those of one job's producer.
#[cfg(not(feature = "failpoints"))]
#[derive(Debug)]
pub(crate) struct Failpoints;

#[cfg(not(feature = "failpoints"))]
impl Failpoints {
    #[inline(always)]
    pub(crate) fn of(_: &str) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn pass(&self, _: Point) {}
}

#[cfg(feature = "failpoints")]
mod on {
    use std::{env, fs, process, sync::LazyLock, thread, time::Duration};

    use parking_lot::Mutex;

    use super::Point;

    /// An answer to EndTxn takes longer, a request less.
    const ON_ITS_WAY: Duration = Duration::from_millis(1);

    static FILE: LazyLock<Option<String>> = LazyLock::new(|| env::var("KSCHED_FAILPOINT").ok());
    /// What the file held, and how often that place was passed since.
    static PASSED: Mutex<(String, u64)> = Mutex::new((String::new(), 0));

    /// Those of one job's producer.
    #[derive(Debug)]
    pub(crate) struct Failpoints {
        job: &'static str,
    }

    impl Failpoints {
        /// The transactional id names the job's partition.
        pub(crate) fn of(transactional_id: &str) -> Self {
            let has = |topic: &str| transactional_id.contains(topic);
            let job = match () {
                () if has(".due.") => "lane",
                () if has(".wheel.") => "drain",
                () => "intake",
            };
            Self { job }
        }

        pub(crate) fn pass(&self, point: Point) {
            let Some(file) = &*FILE else { return };
            let Ok(said) = fs::read_to_string(file) else { return };
            let mut words = said.split_ascii_whitespace();
            if words.next() != Some(self.job) || words.next() != Some(name(point)) {
                return;
            }
            let nth = words.next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
            let mut passed = PASSED.lock();
            if passed.0 != said {
                *passed = (said, 0);
            }
            passed.1 += 1;
            if passed.1 < nth || fs::remove_file(file).is_err() {
                return;
            }
            if point == Point::InsideCommit {
                thread::spawn(|| {
                    thread::sleep(ON_ITS_WAY);
                    process::abort();
                });
            } else {
                process::abort();
            }
        }
    }

    fn name(point: Point) -> &'static str {
        match point {
            Point::AfterRead => "after-read",
            Point::AfterProduce => "after-produce",
            Point::AfterOffsets => "after-offsets",
            Point::InsideCommit => "inside-commit",
            Point::AfterCommit => "after-commit",
        }
    }
}
