//! The broker's disk is full: it stops by itself, and all is there when there is room again.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ksched_local::cluster::{Geometry, Options};

use crate::{
    bed::{self, Bed, WORKERS},
    mischief::{light, until_ended},
    table,
};

const BROKER: &str = "kafka-1";
const SIZE: &str = "size=700m";

/// Mounted for the broker alone; `mount` needs to be allowed, which it is for root.
fn mount_point() -> PathBuf {
    bed::root().join("disk-for-kafka")
}

/// Whatever comes of the scenario. Lazily: the broker may still run on it.
struct Unmount;

impl Drop for Unmount {
    fn drop(&mut self) {
        // Not mounted is as good.
        let _ = Command::new("umount").arg("--lazy").arg(mount_point()).output();
    }
}

pub(crate) fn bed() -> Bed {
    let at = mount_point();
    fs::create_dir_all(&at).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&at).status();
    assert!(mounted.is_ok_and(|status| status.success()), "a file system of its own needs root");
    let geometry = Geometry { ratio: Some(8), levels: Some(2), ..Geometry::default() };
    let properties = [
        ("log.dirs", at.join("data").display().to_string()),
        // Room is taken by what is written, not by indices beforehand.
        ("log.index.size.max.bytes", "65536".to_owned()),
    ];
    let kafka_properties = properties.map(|(name, value)| (name.to_owned(), value)).into();
    let options = Options { coordinators: 1, workers: 2, geometry, kafka_properties, ..Options::default() };
    Bed::start("disk", options)
}

pub(crate) fn full(bed: &Bed) {
    let scenario = "disk::full";
    let _unmount = Unmount;
    let outcome = until_ended(bed, scenario, light(20), || {
        let filler = mount_point().join("filler");
        let mut file = File::create(&filler).unwrap();
        let block = vec![1; 1 << 20];
        let broker = bed.cluster.process(BROKER).unwrap();
        let (mut began_at, mut ended) = (Instant::now(), false);
        bed.between_transactions(&WORKERS[..2], || {
            while file.write_all(&block).is_ok() {}
            began_at = Instant::now();
            ended = broker.wait_end(Duration::from_secs(15));
        });
        table::note(scenario, format!("{BROKER} ended by itself: {ended}, after {:.1?}", began_at.elapsed()));
        thread::sleep(Duration::from_secs(2));
        // As long as it is open its room is taken.
        drop(file);
        fs::remove_file(&filler).unwrap();
        if !ended {
            broker.kill().unwrap();
        }
        bed.cluster.start_again(BROKER).unwrap();
    });
    outcome.assert_nothing_wrong();
}
