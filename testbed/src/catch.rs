//! Reads a topic beside everything else and keeps what came.

use std::{
    ops::ControlFlow,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ksched_client::reader::{Since, TopicReader, Until};
use ksched_core::{
    id::MessageId,
    message::{Content, Header},
};
use parking_lot::Mutex;

use crate::bed::Bed;

/// A record as it came.
#[derive(Clone, Debug)]
pub struct Caught {
    pub at_ms: i64,
    /// The record's time stamp.
    pub appended_ms: i64,
    pub partition: i32,
    pub offset: i64,
    pub content: Content,
}

impl Caught {
    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.content.headers, name)
    }

    pub fn value(&self) -> String {
        self.content.value.as_deref().map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default()
    }

    pub fn due_ms(&self) -> i64 {
        self.header("ksched-due").and_then(|due| due.parse().ok()).expect("a due time")
    }

    /// When it was seen, after its due time; or when it was appended, if that was before: negative, then.
    pub fn late_ms(&self) -> i64 {
        let due_ms = self.due_ms();
        if self.appended_ms < due_ms { self.appended_ms - due_ms } else { self.at_ms - due_ms }
    }

    /// How often it was promoted on its way.
    pub fn hops(&self) -> u32 {
        self.header("ksched-hops").and_then(|hops| hops.parse().ok()).expect("a number of hops")
    }

    pub fn lane(&self) -> u16 {
        let id = self.header("ksched-id").expect("an id");
        id.parse::<MessageId>().expect("an id of ours").lane
    }

    /// What the user gave: all headers but ours.
    pub fn user_headers(&self) -> Vec<Header> {
        let ours = |h: &&Header| !h.name.starts_with("ksched-") && !h.name.starts_with("__sm_");
        self.content.headers.iter().filter(ours).cloned().collect()
    }
}

fn header(headers: &[Header], name: &str) -> Option<String> {
    let found = headers.iter().find(|header| &*header.name == name)?;
    Some(String::from_utf8_lossy(found.value.as_deref().unwrap_or_default()).into_owned())
}

/// Everything that comes to a topic from now on.
#[derive(Debug)]
pub struct Catch {
    caught: Arc<Mutex<Vec<Caught>>>,
    _reader: TopicReader,
}

impl Catch {
    pub fn start(bed: &Bed, topic: &str) -> Self {
        let caught: Arc<Mutex<Vec<Caught>>> = Arc::default();
        let into = Arc::clone(&caught);
        let reader = TopicReader::start(Arc::clone(&bed.log), topic, Since::End, Until::Stopped, move |r| {
            into.lock().push(Caught {
                at_ms: r.at_us / 1_000,
                appended_ms: r.record.timestamp_ms,
                partition: r.record.source.partition,
                offset: r.record.offset,
                content: r.record.content,
            });
            ControlFlow::Continue(())
        });
        Self { caught, _reader: reader.expect("a reader") }
    }

    pub fn all(&self) -> Vec<Caught> {
        self.caught.lock().clone()
    }

    /// Those that a scenario is about, once there are so many of them; a little longer is waited for, so that one
    /// too many would be seen.
    pub fn wait_for(&self, count: usize, within: Duration, is_mine: impl Fn(&Caught) -> bool) -> Vec<Caught> {
        let began_at = Instant::now();
        let mine = || self.all().into_iter().filter(|c| is_mine(c)).collect::<Vec<_>>();
        while mine().len() < count && began_at.elapsed() < within {
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_millis(500));
        mine()
    }
}
