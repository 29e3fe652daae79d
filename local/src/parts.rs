//! Finds the real parts, or fetches them once into a cache folder.
//!
//! The cache is `KSCHED_CACHE`, else `$XDG_CACHE_HOME/ksched`, else `~/.cache/ksched`. Kafka's jars come through
//! Maven into `kafka-4.4.0/libs`, the JMX exporter, if wanted, into `jmx-exporter-1.0.1`, etcd is built from a Go module into `bin/etcd`. A lock file makes a second user
//! wait for the first one's download instead of repeating it, and what is there needs no network.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Error, Result, spawner};

const KAFKA_VERSION: &str = "4.4.0";
/// What lets Kafka write its log; the version that Kafka's own log4j has.
const LOG4J_VERSION: &str = "2.25.5";
const ETCD_VERSION: &str = "3.7.3";
const JMX_EXPORTER_VERSION: &str = "1.0.1";

/// Told what takes time, for a person to read.
pub type Progress = fn(&str);

/// For callers that show nothing.
pub fn silent(_: &str) {}

/// Kafka's jars: `KAFKA_HOME/libs`, or the cache's.
pub fn kafka_libs(progress: Progress) -> Result<PathBuf> {
    if let Some(libs) = given_kafka_libs() {
        return Ok(libs);
    }
    let cache = cache_dir()?;
    let libs = cached_kafka_libs(&cache);
    cached(&cache, &libs, || {
        progress(&format!("fetching Apache Kafka {KAFKA_VERSION} through Maven into {}", libs.display()));
        fetch_kafka(&libs)
    })?;
    Ok(libs)
}

fn given_kafka_libs() -> Option<PathBuf> {
    given("KAFKA_HOME").map(|home| home.join("libs"))
}

fn cached_kafka_libs(cache: &Path) -> PathBuf {
    cache.join(format!("kafka-{KAFKA_VERSION}/libs"))
}

/// The Java agent by which a Kafka node tells what it counts: Prometheus' JMX exporter.
pub fn jmx_exporter(progress: Progress) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let dir = cache.join(format!("jmx-exporter-{JMX_EXPORTER_VERSION}"));
    cached(&cache, &dir, || {
        progress(&format!(
            "fetching the JMX exporter {JMX_EXPORTER_VERSION} through Maven into {}",
            dir.display()
        ));
        fetch_jmx_exporter(&dir)
    })?;
    Ok(dir.join(format!("jmx_prometheus_javaagent-{JMX_EXPORTER_VERSION}.jar")))
}

/// The Java that runs Kafka.
pub fn java() -> Result<PathBuf> {
    if let Some(home) = given("JAVA_HOME") {
        return Ok(home.join("bin/java"));
    }
    on_path("java").ok_or(Error::Missing {
        program: "java",
        purpose: "run Apache Kafka",
        remedy: "Debian: apt-get install openjdk-17-jre-headless",
    })
}

/// An etcd binary: `ETCD`, or the cache's, or one on the path that is new enough, or one built into the cache.
pub fn etcd(progress: Progress) -> Result<PathBuf> {
    if let Some(binary) = given("ETCD") {
        return Ok(binary);
    }
    let cache = cache_dir()?;
    let binary = cached_etcd(&cache);
    if !binary.exists()
        && let Some(found) = on_path("etcd").filter(|found| is_new_enough(found))
    {
        return Ok(found);
    }
    cached(&cache, &binary, || {
        progress(&format!("building etcd {ETCD_VERSION} with go into {}", binary.display()));
        build_etcd(&cache, &binary)
    })?;
    Ok(binary)
}

fn cached_etcd(cache: &Path) -> PathBuf {
    cache.join("bin/etcd")
}

/// Prometheus, which is not fetched.
pub(crate) fn prometheus() -> Result<PathBuf> {
    on_path("prometheus").ok_or(Error::Missing {
        program: "prometheus",
        purpose: "watch the cluster",
        remedy: "Debian: apt-get install prometheus; the service that comes with it is not needed",
    })
}

/// Jaeger 2, if there is one: on the path, or in the cache, where `scripts/install-parts jaeger` makes it.
pub(crate) fn jaeger() -> Option<PathBuf> {
    on_path("jaeger").or_else(|| Some(cache_dir().ok()?.join("bin/jaeger")).filter(|binary| binary.exists()))
}

/// Which versions of its parts a cluster on this machine runs, as far as the parts tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    pub kafka: Option<String>,
    pub etcd: Option<String>,
}

/// Of the parts that [`kafka_libs`] and [`etcd`] find; nothing is fetched.
pub fn versions() -> Versions {
    let jar = |file: fs::DirEntry| {
        let name = file.file_name().into_string().ok()?;
        Some(name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?.to_owned())
    };
    let cache = cache_dir().ok();
    let libs = given_kafka_libs().or_else(|| cache.as_deref().map(cached_kafka_libs));
    let etcd = || cache.map(|cache| cached_etcd(&cache)).filter(|binary| binary.exists());
    Versions {
        kafka: libs.and_then(|libs| fs::read_dir(libs).ok()?.flatten().find_map(jar)),
        etcd: given("ETCD").or_else(etcd).or_else(|| on_path("etcd")).and_then(|etcd| etcd_version(&etcd)),
    }
}

/// Where parts are kept.
pub fn cache_dir() -> Result<PathBuf> {
    let xdg = || given("XDG_CACHE_HOME").map(|dir| dir.join("ksched"));
    let home = || given("HOME").map(|dir| dir.join(".cache/ksched"));
    given("KSCHED_CACHE")
        .or_else(xdg)
        .or_else(home)
        .ok_or(Error::Invalid("none of KSCHED_CACHE, XDG_CACHE_HOME and HOME is set"))
}

/// The first executable of that name on the path.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn given(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Runs `fetch` unless `wanted` exists, holding the cache's lock. `fetch` makes `wanted` appear complete or not at
/// all.
fn cached(cache: &Path, wanted: &Path, fetch: impl FnOnce() -> Result<()>) -> Result<()> {
    if wanted.exists() {
        return Ok(());
    }
    fs::create_dir_all(cache).map_err(Error::io(format!("make {}", cache.display())))?;
    let lock = fs::File::create(cache.join("lock")).map_err(Error::io("open the cache's lock"))?;
    lock.lock().map_err(Error::io("lock the cache"))?;
    if wanted.exists() { Ok(()) } else { fetch() }
}

fn fetch_kafka(libs: &Path) -> Result<()> {
    let maven = maven()?;
    let dir = libs.parent().unwrap_or(libs);
    let fresh = dir.join("libs.part");
    empty(&fresh)?;
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>ksched</groupId><artifactId>kafka-jars</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies><dependency><groupId>org.apache.kafka</groupId>\
         <artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version></dependency>\
         <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>\
         <version>{LOG4J_VERSION}</version></dependency></dependencies></project>\n"
    );
    write(&dir.join("pom.xml"), &pom)?;
    let mut command = spawner::guarded(&maven);
    command.args(["-q", "-B", "dependency:copy-dependencies"]).current_dir(dir);
    command.arg(format!("-DoutputDirectory={}", fresh.display()));
    run(command)?;
    rename(&fresh, libs)
}

fn fetch_jmx_exporter(dir: &Path) -> Result<()> {
    let maven = maven()?;
    let fresh = dir.with_extension("part");
    empty(&fresh)?;
    let mut command = spawner::guarded(&maven);
    command.args(["-q", "-B", "dependency:copy"]);
    command.arg(format!("-Dartifact=io.prometheus.jmx:jmx_prometheus_javaagent:{JMX_EXPORTER_VERSION}"));
    command.arg(format!("-DoutputDirectory={}", fresh.display()));
    run(command)?;
    rename(&fresh, dir)
}

fn maven() -> Result<PathBuf> {
    on_path("mvn").ok_or(Error::Missing {
        program: "mvn",
        purpose: "fetch Apache Kafka's jars",
        remedy: "Debian: apt-get install maven; or set KAFKA_HOME to an unpacked Kafka 4",
    })
}

fn build_etcd(cache: &Path, binary: &Path) -> Result<()> {
    let go = on_path("go").ok_or(Error::Missing {
        program: "go",
        purpose: "build etcd",
        remedy: "see go.dev/dl; or set ETCD to an etcd binary of 3.5.23, 3.6.5 or newer",
    })?;
    let dir = cache.join("etcd-build.part");
    empty(&dir)?;
    // `go install` refuses etcd's own module (replace directives), a module that calls its main is fine.
    write(
        &dir.join("main.go"),
        "package main\n\nimport (\n\t\"os\"\n\n\t\"go.etcd.io/etcd/server/v3/etcdmain\"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n",
    )?;
    write(
        &dir.join("go.mod"),
        &format!(
            "module ksched.local/etcd\n\ngo 1.24\n\nrequire go.etcd.io/etcd/server/v3 v{ETCD_VERSION}\n"
        ),
    )?;
    let built = dir.join("etcd");
    let mut command = spawner::guarded(&go);
    command.args(["build", "-mod=mod", "-o"]).arg(&built).arg(".").current_dir(&dir);
    run(command)?;
    let bin = cache.join("bin");
    fs::create_dir_all(&bin).map_err(Error::io(format!("make {}", bin.display())))?;
    rename(&built, binary)?;
    fs::remove_dir_all(&dir).map_err(Error::io(format!("remove {}", dir.display())))
}

/// Before 3.5.23 and 3.6.5 the renewal of a revoked lease may be answered OK.
fn is_new_enough(etcd: &Path) -> bool {
    let version = etcd_version(etcd).as_deref().and_then(parse_version);
    version.is_some_and(|version| version >= [3, 6, 5] || ([3, 5, 23]..[3, 6, 0]).contains(&version))
}

fn etcd_version(etcd: &Path) -> Option<String> {
    let output = Command::new(etcd).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix("etcd Version: ")).map(|version| version.trim().to_owned())
}

fn parse_version(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.trim().split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// Runs a helper, made by [`spawner::guarded`], to its end; its output goes into the error only.
pub(crate) fn run(mut command: Command) -> Result<()> {
    // Without setpriv and its own arguments, which are of no interest when something fails.
    let shown: Vec<_> =
        command.get_args().skip_while(|arg| *arg != "--").skip(1).map(OsStr::to_string_lossy).collect();
    let shown = shown.join(" ");
    let output = command.output().map_err(Error::io(format!("run {shown}")))?;
    if output.status.success() {
        return Ok(());
    }
    let both = [output.stdout, output.stderr].concat();
    let output_text = String::from_utf8_lossy(&both).trim().to_owned();
    Err(Error::Command { command: shown, status: output.status, output: output_text })
}

/// Makes `dir` exist and hold nothing, whatever an interrupted attempt left.
fn empty(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(Error::io(format!("remove {}", dir.display())))?;
    }
    fs::create_dir_all(dir).map_err(Error::io(format!("make {}", dir.display())))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(Error::io(format!("write {}", file.display())))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(format!("move {} to {}", from.display(), to.display())))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("3.7.3"), Some([3, 7, 3]));
        assert!(parse_version("3.10.0") > parse_version("3.9.9"));
        assert_eq!(parse_version("3.7"), None);
    }
}
