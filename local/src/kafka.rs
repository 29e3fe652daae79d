//! Apache Kafka in KRaft mode: one node, or three with replication 3.

pub mod metrics;
mod ready;

use std::{
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    parts::{self, Progress},
    ports::Ports,
    process::{Process, Spec},
    spawner,
};

/// A node answers in some four seconds on two free cores; recovery after a kill and busy machines take longer.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A clean end writes everything out and tells the controller.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What may differ from a single node on chosen ports.
#[derive(Clone, Debug)]
pub struct Options {
    /// One node, or three.
    pub brokers: u16,
    /// The first node's port, else a free one.
    pub port: Option<u16>,
    /// Fixed heap of each node, as `-Xms` and `-Xmx` take it.
    pub heap: String,
    /// `auto.create.topics.enable`; on, as Kafka has it.
    pub auto_create_topics: AutoCreate,
    /// Whether each node tells what it counts, for [`metrics`].
    pub metrics: bool,
    /// Broker properties that win over ours.
    pub properties: Vec<(String, String)>,
    /// Further doors; for one node only.
    pub listeners: Vec<Listener>,
    /// Added to every node's environment.
    pub env: Vec<(String, String)>,
    pub progress: Progress,
}

/// A further door of a node, whose clients are told another port than it listens on: what listens there, a proxy,
/// has all of their connections go through it, and no answer needs to be rewritten for that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listener {
    /// In capitals, as Kafka names listeners.
    pub name: String,
    pub port: u16,
    pub advertised_port: u16,
}

/// Whether naming an unknown topic makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCreate {
    On,
    Off,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: 1,
            port: None,
            heap: "512m".to_owned(),
            auto_create_topics: AutoCreate::On,
            metrics: false,
            properties: Vec::new(),
            listeners: Vec::new(),
            env: Vec::new(),
            progress: parts::silent,
        }
    }
}

/// The nodes, running or not. Dropping it kills them; their data stays in the directory.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    process: Process,
    id: u16,
    port: u16,
    metrics_port: Option<u16>,
}

impl Kafka {
    /// Starts the nodes with their data under `dir/kafka-<n>` (formatted if there is none, taken up again if there
    /// is) and returns when all answer.
    pub fn start(dir: &Path, options: &Options) -> Result<Self> {
        let kafka = Self::prepare(dir, options)?;
        kafka.start_again()?;
        Ok(kafka)
    }

    /// Starts one node again and returns when it answers.
    ///
    /// # Errors
    /// [`Error::Unknown`] if no node has that name.
    pub fn start_node(&self, name: &str) -> Result<()> {
        let node =
            self.nodes.iter().find(|node| node.process.name() == name).ok_or_else(|| Error::Unknown {
                name: name.to_owned(),
                known: self.processes().map(Process::name).collect::<Vec<_>>().join(", "),
            })?;
        node.process.start()?;
        node.wait_ready()
    }

    /// Starts the nodes that do not run, on the same ports and data, and returns when all answer.
    pub fn start_again(&self) -> Result<()> {
        for node in self.nodes.iter().filter(|node| node.process.pid().is_none()) {
            node.process.start()?;
        }
        // Three nodes become ready together or not at all, so all are started before any is waited for.
        self.nodes.iter().try_for_each(Node::wait_ready)
    }

    /// The bootstrap list, `HOST:PORT[,HOST:PORT…]`.
    pub fn address(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// Where each node tells what it counts, `HOST:PORT`, for [`metrics::read`]; nowhere unless
    /// [`Options::metrics`].
    pub fn metrics(&self) -> Vec<String> {
        self.nodes
            .iter()
            .filter_map(|node| node.metrics_port)
            .map(|port| format!("127.0.0.1:{port}"))
            .collect()
    }

    /// Of the first node.
    pub fn pid(&self) -> Option<u32> {
        self.nodes.first()?.process.pid()
    }

    /// `kafka-1`, … in order.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter().map(|node| &node.process)
    }

    /// `SIGKILL` to every node; returns when they are gone.
    pub fn kill(&self) -> Result<()> {
        self.processes().try_for_each(Process::kill)
    }

    /// A clean end of every node.
    pub fn stop(&self) -> Result<()> {
        self.processes().try_for_each(Process::terminate)?;
        self.processes().try_for_each(|process| process.stop(STOP_WITHIN))
    }

    /// `SIGSTOP` to every node.
    pub fn pause(&self) -> Result<()> {
        self.processes().try_for_each(Process::pause)
    }

    /// `SIGCONT` to every node.
    pub fn resume(&self) -> Result<()> {
        self.processes().try_for_each(Process::resume)
    }

    pub(crate) fn prepare(dir: &Path, options: &Options) -> Result<Self> {
        if !matches!(options.brokers, 1 | 3) {
            return Err(Error::Invalid("Kafka runs as one node or as three"));
        }
        if options.brokers != 1 && !options.listeners.is_empty() {
            return Err(Error::Invalid("only a Kafka of one node has further listeners"));
        }
        fs::create_dir_all(dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(Error::io(format!("find {}", dir.display())))?;
        let exporter = options.metrics.then(|| parts::jmx_exporter(options.progress)).transpose()?;
        let installed =
            Installed { java: parts::java()?, libs: parts::kafka_libs(options.progress)?, exporter };
        let layout = Layout::choose(&dir, options)?;
        let cluster_id = cluster_id(&dir)?;
        write(&dir.join("kafka-log4j2.properties"), LOG4J2)?;
        if options.metrics {
            write(&dir.join("kafka-metrics.yml"), metrics::RULES)?;
        }

        let formatted = [1, 2, 3].into_iter().filter(|id| is_formatted(&home(&dir, *id))).count();
        if formatted != 0 && formatted != usize::from(options.brokers) {
            return Err(Error::Invalid(
                "this directory holds a Kafka with another number of nodes; purge it first",
            ));
        }
        let nodes: Vec<_> = (1..=options.brokers)
            .map(|id| layout.node(&dir, id, &installed, options))
            .collect::<Result<_>>()?;
        format_nodes(&dir, &layout, &installed, &cluster_id)?;
        Ok(Self { nodes })
    }
}

impl Node {
    fn wait_ready(&self) -> Result<()> {
        self.process.wait_ready(READY_WITHIN, || ready::serves(self.port, self.id))
    }
}

/// The Java and the jars.
#[derive(Debug)]
struct Installed {
    java: PathBuf,
    libs: PathBuf,
    /// If nodes are to tell what they count.
    exporter: Option<PathBuf>,
}

impl Installed {
    fn classpath(&self) -> String {
        format!("{}/*", self.libs.display())
    }
}

/// Each node's client port and controller port, in order, and where they tell what they count, if they do.
#[derive(Debug)]
struct Layout {
    ports: Vec<(u16, u16)>,
    metrics: Vec<u16>,
}

impl Layout {
    fn choose(dir: &Path, options: &Options) -> Result<Self> {
        let mut ports = Ports::open(dir)?;
        let (mut chosen, mut metrics) = (Vec::new(), Vec::new());
        for id in 1..=options.brokers {
            let fixed = options.port.filter(|_| id == 1);
            chosen.push((
                ports.of(&format!("kafka-{id}"), fixed)?,
                ports.of(&format!("kafka-{id}-controller"), None)?,
            ));
            if options.metrics {
                metrics.push(ports.of(&format!("kafka-{id}-metrics"), None)?);
            }
        }
        Ok(Self { ports: chosen, metrics })
    }

    fn node(&self, dir: &Path, id: u16, installed: &Installed, options: &Options) -> Result<Node> {
        let home = home(dir, id);
        fs::create_dir_all(&home).map_err(Error::io(format!("make {}", home.display())))?;
        let properties = home.join("server.properties");
        write(&properties, &self.properties(&home, id, options))?;
        let metrics_port = self.metrics.get(usize::from(id) - 1).copied();
        let agent = installed.exporter.as_ref().zip(metrics_port).map(|(jar, port)| {
            let rules = dir.join("kafka-metrics.yml");
            format!("-javaagent:{}=127.0.0.1:{port}:{}", jar.display(), rules.display())
        });
        let flags = [
            format!("-Xms{}", options.heap),
            format!("-Xmx{}", options.heap),
            // What Kafka's own start script asks for.
            "-XX:+UseG1GC".to_owned(),
            "-XX:MaxGCPauseMillis=20".to_owned(),
            "-XX:InitiatingHeapOccupancyPercent=35".to_owned(),
            format!("-Dlog4j2.configurationFile={}", dir.join("kafka-log4j2.properties").display()),
            "-cp".to_owned(),
            installed.classpath(),
            "kafka.Kafka".to_owned(),
            properties.display().to_string(),
        ];
        let spec = Spec {
            program: installed.java.clone(),
            args: agent.into_iter().chain(flags).map(Into::into).collect(),
            env: options.env.clone(),
            ..Spec::default()
        };
        Ok(Node {
            process: Process::new(format!("kafka-{id}"), dir, spec),
            id,
            port: self.ports[usize::from(id) - 1].0,
            metrics_port,
        })
    }

    fn properties(&self, home: &Path, id: u16, options: &Options) -> String {
        let (port, controller) = self.ports[usize::from(id) - 1];
        let voters: Vec<_> =
            (1..).zip(&self.ports).map(|(id, (_, port))| format!("{id}@127.0.0.1:{port}")).collect();
        let replication = self.ports.len();
        let min_isr = if replication == 3 { 2 } else { 1 };
        let ours = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", id.to_string()),
            ("controller.quorum.voters", voters.join(",")),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("log.dirs", home.join("data").display().to_string()),
            ("default.replication.factor", replication.to_string()),
            ("min.insync.replicas", min_isr.to_string()),
            ("offsets.topic.replication.factor", replication.to_string()),
            ("transaction.state.log.replication.factor", replication.to_string()),
            ("transaction.state.log.min.isr", min_isr.to_string()),
            ("share.coordinator.state.topic.replication.factor", replication.to_string()),
            ("share.coordinator.state.topic.min.isr", min_isr.to_string()),
            // Few internal partitions, and no waiting for more members: ready sooner.
            ("offsets.topic.num.partitions", "1".to_owned()),
            // Kafka 4.4 reads this topic from its start when it comes up, and on one node that was killed a long read
            // ends with the group coordinator out of step with its log, for good ("is out of sync with the
            // underlying log", seen after 5 minutes of load): keep it short by compacting soon.
            ("offsets.topic.segment.bytes", (2 << 20).to_string()),
            ("log.cleaner.backoff.ms", "2000".to_owned()),
            ("transaction.state.log.num.partitions", "5".to_owned()),
            ("share.coordinator.state.topic.num.partitions", "1".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
            // A node that was killed may register again only when its old session is over (9 s by default).
            ("broker.session.timeout.ms", "4000".to_owned()),
            ("broker.heartbeat.interval.ms", "500".to_owned()),
            // As ksched asks for: 30 days (docs/ARCHITECTURE.md, positions can vanish).
            ("offsets.retention.minutes", "43200".to_owned()),
            // The cleaner's default buffer is 128 MiB, a quarter of a small heap.
            ("log.cleaner.dedupe.buffer.size", "16777216".to_owned()),
            // A lone node that is stopped resigns from its partitions first, and a transaction that ends while they have
            // no leader gets no markers, though its coordinator calls it complete: it hangs (docs/OPERATIONS.md).
            ("controlled.shutdown.enable", (replication > 1).to_string()),
            ("auto.create.topics.enable", (options.auto_create_topics == AutoCreate::On).to_string()),
        ];
        let doors = doors(port, controller, &options.listeners);
        let given = options.properties.iter().map(|(name, value)| (name.as_str(), value.clone()));
        // Of a property named twice, Java takes the last.
        ours.into_iter().chain(doors).chain(given).map(|(name, value)| format!("{name}={value}\n")).collect()
    }
}

/// Where a node listens, and what it tells its clients of it.
fn doors(port: u16, controller: u16, further: &[Listener]) -> Vec<(&'static str, String)> {
    let plain = format!("PLAINTEXT://127.0.0.1:{port}");
    let all = |port_of: fn(&Listener) -> u16| {
        further
            .iter()
            .map(move |one| format!(",{}://127.0.0.1:{}", one.name, port_of(one)))
            .collect::<String>()
    };
    let listening = all(|one| one.port);
    let listeners = ("listeners", format!("{plain},CONTROLLER://127.0.0.1:{controller}{listening}"));
    if further.is_empty() {
        return vec![listeners];
    }
    let protocols: String = further.iter().map(|one| format!(",{}:PLAINTEXT", one.name)).collect();
    vec![
        listeners,
        ("advertised.listeners", format!("{plain}{}", all(|one| one.advertised_port))),
        ("listener.security.protocol.map", format!("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}")),
        ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
    ]
}

/// Formats the nodes that have no data yet, side by side.
fn format_nodes(dir: &Path, layout: &Layout, installed: &Installed, cluster_id: &str) -> Result<()> {
    let ids = 1..=u16::try_from(layout.ports.len()).unwrap_or(u16::MAX);
    let blank = ids.map(|id| home(dir, id)).filter(|home| !is_formatted(home));
    let commands = blank.map(|home| {
        let mut command = spawner::guarded(&installed.java);
        command.args([
            "-Xmx128m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            &installed.classpath(),
        ]);
        command.arg(format!("-Dlog4j2.configurationFile={}", dir.join("kafka-log4j2.properties").display()));
        command.args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"]);
        command.arg(home.join("server.properties"));
        command
    });
    let commands: Vec<_> = commands.collect();
    thread::scope(|scope| {
        let running: Vec<_> =
            commands.into_iter().map(|command| scope.spawn(|| parts::run(command))).collect();
        running.into_iter().try_for_each(|format| {
            format.join().unwrap_or(Err(Error::Invalid("the thread that formats a Kafka node ended early")))
        })
    })
}

/// 22 characters of URL-safe base64 (16 bytes), kept in the directory: every node must be formatted with the same.
fn cluster_id(dir: &Path) -> Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let file = dir.join("kafka-cluster-id");
    if let Ok(id) = fs::read_to_string(&file) {
        return Ok(id);
    }
    // The last character carries two bits only. A leading dash would be read as an option.
    let draws = (0..21).map(|_| RandomState::new().build_hasher().finish() % 62);
    let mut id: String =
        draws.map(|draw| char::from(ALPHABET[usize::try_from(draw).unwrap_or_default()])).collect();
    id.push('Q');
    write(&file, &id)?;
    Ok(id)
}

fn home(dir: &Path, id: u16) -> PathBuf {
    dir.join(format!("kafka-{id}"))
}

fn is_formatted(home: &Path) -> bool {
    home.join("data/meta.properties").exists()
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).map_err(Error::io(format!("write {}", file.display())))
}

/// Warnings only, but for the lines that say that a node starts, serves and stops.
const LOG4J2: &str = "\
status = ERROR
appender.stdout.type = Console
appender.stdout.name = STDOUT
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.stdout.ref = STDOUT
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
";
