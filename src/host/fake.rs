//! A host in memory, with a file system and systemd: what `observe.sh` and `execute.sh` do, for tests.

mod ensemble;
mod kafka;

pub use kafka::FakeKafka;

use super::{Body, Call, Command, Connect, Host, HostError, OnLine, Output, Unreachable};
use crate::inventory::model::{self, KafkaMode};
use crate::plan::EnsembleFact;
use crate::service::sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use ensemble::{Ensemble, UNIT};

/// Content, mode, owner, group.
pub type FakeFile = (Vec<u8>, String, String, String);

/// Steps that leave no line in [`State::log`].
const SILENT: [&str; 9] =
    ["ids", "lock", "touch", "unlock", "audit", "part", "manifest", "downtime", "downtime-end"];

/// What a broker keeps of itself.
const KAFKA_PROPERTIES: &str = "/var/lib/aesop/kafka/meta.properties";

/// What is on the host.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Files: content, mode, owner, group.
    pub files: BTreeMap<String, FakeFile>,
    /// Directories: mode, owner, group.
    pub directories: BTreeMap<String, (String, String, String)>,
    /// Links.
    pub links: BTreeMap<String, String>,
    /// Users.
    pub users: BTreeSet<String>,
    /// Packages.
    pub packages: BTreeSet<String>,
    /// Artifacts.
    pub artifacts: BTreeSet<String>,
    /// What of aesop's is there, as its manifest says.
    pub manifest: String,
    /// Copy of the controller's lock file.
    pub lock_file: Option<String>,
    /// Snapshots of generations, with their artifacts.
    pub generations: BTreeMap<u64, (String, String)>,
    /// Files as they were before the last commit.
    former: BTreeMap<String, Option<FakeFile>>,
    /// No service becomes ready while a file has this text in it.
    pub poison: Option<String>,
    /// Units that run.
    pub active: BTreeSet<String>,
    /// Units whose file changed since systemd read it.
    pub unread: BTreeSet<String>,
    /// Units that are enabled.
    pub enabled: BTreeSet<String>,
    /// What units were started with.
    pub records: BTreeMap<String, String>,
    /// Generation.
    pub generation: u64,
    /// Holder of the lock.
    pub lock: Option<String>,
    /// What its holder was asked for.
    pub operation: String,
    /// Audit lines.
    pub audit: Vec<String>,
    /// Every step carried out, by its first word and object.
    pub log: Vec<String>,
    /// Steps that fail, by the beginning of their line.
    pub fails: Vec<String>,
    /// No connection.
    pub unreachable: bool,
    /// What lay on the disk when a unit was last started: hashes of files and targets of links, by path.
    pub started_with: BTreeMap<String, BTreeMap<String, String>>,
    /// The same for when it last read its configuration.
    pub loaded_with: BTreeMap<String, BTreeMap<String, String>>,
    /// How often it was booted.
    pub boots: usize,
    /// Steps that fail once it was.
    pub fails_after_boot: Vec<String>,
    /// It went down, and nobody has connected since.
    down: bool,
    /// Calls answered: round trips.
    pub calls: usize,
    /// What ZooKeeper's server keeps of its members; none where it never ran, or its disk is lost.
    pub ensemble: Option<EnsembleFact>,
    /// That was written for its next start.
    configured: bool,
}

/// What all hosts of one test share.
#[derive(Debug, Default)]
struct World {
    /// Lines of steps that will still be carried out anywhere; none: no end. At 0 whoever sends them is dead.
    fuse: Option<usize>,
    /// Every line that was carried out, in order, with its host.
    trace: Vec<(String, String)>,
    /// The brokers together.
    kafka: FakeKafka,
    ensemble: Ensemble,
}

/// A host in memory.
#[derive(Clone, Debug)]
pub struct FakeHost {
    name: String,
    state: Arc<Mutex<State>>,
    world: Arc<Mutex<World>>,
}

/// Hosts in memory by name; made when they are first connected to.
#[derive(Debug, Default)]
pub struct FakeConnect {
    hosts: Mutex<BTreeMap<String, FakeHost>>,
    world: Arc<Mutex<World>>,
}

impl FakeConnect {
    /// The host of that name.
    pub fn host(&self, name: &str) -> FakeHost {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let made =
            || FakeHost { name: name.to_owned(), state: Arc::default(), world: Arc::clone(&self.world) };
        hosts.entry(name.to_owned()).or_insert_with(made).clone()
    }

    /// Whoever sends steps dies after so many lines, on all hosts together; none: never.
    pub fn dies_after(&self, lines: Option<usize>) {
        self.world.lock().unwrap_or_else(PoisonError::into_inner).fuse = lines;
    }

    /// It is so far.
    pub async fn dead(&self) {
        while self.world.lock().unwrap_or_else(PoisonError::into_inner).fuse != Some(0) {
            tokio::task::yield_now().await;
        }
    }

    /// Looks at the Kafka cluster, or changes it.
    pub fn kafka<T>(&self, f: impl FnOnce(&mut FakeKafka) -> T) -> T {
        f(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner).kafka)
    }

    /// Kafka notices which of its brokers run, after something was done to hosts behind aesop's back.
    pub fn kafka_notices(&self) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for host in hosts.values() {
            let (node, up) = host.with(|state| (state.node(), state.active.contains("aesop-kafka.service")));
            // What is gone for good is for tests to say.
            let known = |kafka: &FakeKafka, id| {
                kafka.view.brokers.contains_key(&id) || kafka.controllers.contains(&id)
            };
            if let Some(node) = node {
                self.kafka(|kafka| {
                    if known(kafka, node.id) {
                        kafka.turn(&node, up);
                    }
                });
            }
        }
    }

    /// Promises about ZooKeeper's ensemble that were broken.
    pub fn broken(&self) -> Vec<String> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner).ensemble.broken.clone()
    }

    /// ZooKeeper's servers notice what happened to their hosts since the last step.
    pub fn meet(&self) {
        let (mut running, mut disks) = (BTreeMap::new(), BTreeSet::new());
        for (name, host) in self.hosts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            host.with(|state| {
                if state.ensemble.is_some() {
                    disks.insert(name.clone());
                    let id = state.myid().filter(|_| state.active.contains(UNIT));
                    running.extend(id.map(|id| (name.clone(), id)));
                }
            });
        }
        self.world.lock().unwrap_or_else(PoisonError::into_inner).ensemble.meet(running, &disks);
    }

    /// The lines that were carried out since the last call, with their hosts.
    pub fn take_trace(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner).trace)
    }
}

impl Connect for FakeConnect {
    fn connect<'a>(&'a self, host: &'a model::Host) -> BoxFuture<'a, Result<Arc<dyn Host>, HostError>> {
        let found = self.host(&host.name);
        found.with(|state| state.down = false);
        Box::pin(async move {
            if found.with(|state| state.unreachable) {
                return Err(HostError::Unreachable {
                    host: host.name.clone(),
                    address: host.address.clone(),
                    why: Unreachable::NoAnswer("connection timed out".to_owned()),
                });
            }
            let found: Arc<dyn Host> = Arc::new(found);
            Ok(found)
        })
    }
}

impl FakeHost {
    /// Looks at the state, or changes it.
    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Host for FakeHost {
    fn call<'a>(&'a self, call: Call, on_line: OnLine<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        Box::pin(async move {
            let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = self.with(|state| {
                state.calls += 1;
                if state.down {
                    return None;
                }
                match call.command {
                    Command::Observe(questions) => {
                        state.hear(&self.name, &world.ensemble);
                        Some((state.observe(&questions), 0))
                    }
                    Command::Execute(steps, bodies) => state.execute(&self.name, &mut world, &steps, &bodies),
                    Command::Argv(argv) if argv.get(1).is_some_and(|word| word == "view") => {
                        let view = world.kafka.said().and_then(|view| serde_json::to_string(&view).ok());
                        Some((view.unwrap_or_default(), 0))
                    }
                    Command::Argv(argv) if argv.first().is_some_and(|word| word == "systemctl") => {
                        Some((format!("boot {}", state.boots), 0))
                    }
                    Command::Argv(args) => Some((world.ensemble.rank(&args), 0)),
                    Command::Follow(_) => Some((String::new(), 0)),
                }
            });
            drop(world);
            let (text, status) = answer.ok_or_else(|| HostError::Lost { host: self.name.clone() })?;
            text.lines().for_each(on_line);
            Ok(Output { status: Some(status), stdout: text.into_bytes(), stderr: String::new() })
        })
    }

    fn reconnect(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async {
            self.with(|state| state.down = false);
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

impl State {
    fn observe(&self, questions: &str) -> String {
        let mut out =
            String::from("aesop|1\nos|debian|12\nmachine|fake|6.1|x86_64\nnow|1000\nmemory|4194304\n");
        let mut say = |line: std::fmt::Arguments<'_>| {
            let _infallible = writeln!(out, "{line}");
        };
        let mut kept = self.lock_file.iter().flat_map(|text| text.lines());
        if let Some(version) = kept.find_map(|line| line.strip_prefix("aesop: ")) {
            say(format_args!("deployed|{version}"));
        }
        if self.generation > 0 {
            say(format_args!("generation|{}", self.generation));
        }
        say(format_args!("boot|{}.1", self.boots));
        if let Some(lock) = &self.lock {
            say(format_args!("lock|{lock}|fake|0|0\noperation|{}", self.operation));
        }
        for line in self.manifest.lines() {
            say(format_args!("manifest|{line}"));
        }
        if let (Some(known), true) = (&self.ensemble, self.manifest.contains("zookeeper|data|")) {
            let (version, members) = (known.version, STANDARD.encode(&known.members));
            let id = self.myid().map_or_else(String::new, |id| id.to_string());
            say(format_args!("ensemble|zoo.cfg.dynamic.{version:x}|{members}|{id}"));
        }
        for (generation, (_, artifacts)) in &self.generations {
            say(format_args!("kept|{generation}|{artifacts}"));
        }
        for (unit, record) in &self.records {
            say(format_args!("record|{unit}|{record}"));
        }
        for id in &self.artifacts {
            say(format_args!("artifact|{id}"));
        }
        if questions.lines().any(|line| line == "leaving") {
            for (path, (content, mode, owner, group)) in self.leaving(questions) {
                say(format_args!(
                    "stat|{path}|regular file|{mode}|{owner}|{group}\nsha256|{path}|{}",
                    sha256(content)
                ));
                if mode.ends_with(['4', '5', '6', '7']) {
                    say(format_args!("content|{path}|{}", STANDARD.encode(content)));
                }
            }
        }
        for line in questions.lines() {
            let mut fields = line.split('|');
            let (kind, name) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            let rest = fields.next().unwrap_or("");
            match kind {
                "path" => {
                    if let Some(target) = self.links.get(name) {
                        say(format_args!("stat|{name}|symbolic link|777|root|root\nlink|{name}|{target}"));
                    } else if let Some((_, mode, owner, group)) = self.files.get(name) {
                        say(format_args!("stat|{name}|regular file|{mode}|{owner}|{group}"));
                    } else if let Some((mode, owner, group)) = self.directories.get(name) {
                        say(format_args!("stat|{name}|directory|{mode}|{owner}|{group}"));
                    }
                }
                "show" => {
                    if let Some((content, ..)) = self.files.get(name) {
                        let sum = sha256(content);
                        say(format_args!("sha256|{name}|{sum}"));
                        if rest != "secret" && rest != sum {
                            say(format_args!("content|{name}|{}", STANDARD.encode(content)));
                        }
                    }
                }
                "unit" => {
                    let active = if self.active.contains(name) { "active" } else { "inactive" };
                    let file = if self.enabled.contains(name) { "enabled" } else { "disabled" };
                    let unread = if self.unread.contains(name) { "yes" } else { "no" };
                    say(format_args!("unit|{name}|{active}|running|{file}|{unread}|"));
                }
                "package" if self.packages.contains(name) => say(format_args!("package|{name}|1|installed")),
                "user" if self.users.contains(name) => say(format_args!("user|{name}")),
                "snapshot" => {
                    if let Some((text, _)) =
                        name.parse().ok().and_then(|number| self.generations.get(&number))
                    {
                        say(format_args!("snapshot|{name}|{}", STANDARD.encode(text)));
                    }
                }
                "id" if name == crate::service::paths::LOCK_FILE_COPY => {
                    if let Some(text) = &self.lock_file {
                        say(format_args!("id|{name}|{}", STANDARD.encode(text)));
                    }
                }
                "id" => {
                    if let Some((content, ..)) = self.files.get(name) {
                        say(format_args!("id|{name}|{}", STANDARD.encode(content)));
                    }
                }
                _ => {}
            }
        }
        out.push_str("end\n");
        out
    }

    /// Files of aesop's that nobody asks about.
    fn leaving<'a>(&'a self, questions: &'a str) -> impl Iterator<Item = (&'a str, &'a FakeFile)> {
        let asked: BTreeSet<&str> = questions.lines().filter_map(|line| line.strip_prefix("path|")).collect();
        let files = self.manifest.lines().filter_map(|line| {
            let mut fields = line.split('|').skip(2);
            (fields.next()? == "file").then(|| fields.next())?
        });
        let unasked: BTreeSet<&str> = files.filter(|path| !asked.contains(path)).collect();
        unasked.into_iter().filter_map(|path| Some((path, self.files.get(path)?)))
    }

    /// None: whoever sent the steps died in the middle.
    fn execute(
        &mut self,
        host: &str,
        world: &mut World,
        steps: &str,
        bodies: &[Body],
    ) -> Option<(String, i32)> {
        let mut out = String::new();
        let mut bodies = bodies.iter();
        let mut staged = Vec::new();
        for (number, line) in steps.lines().enumerate() {
            if let Some(left) = &mut world.fuse {
                *left = left.checked_sub(1)?;
            }
            world.trace.push((host.to_owned(), line.to_owned()));
            if self.fails.iter().any(|start| line.starts_with(start.as_str())) {
                let _infallible = writeln!(out, "failed|{number}|{}", STANDARD.encode("told to fail"));
                return Some((out, 1));
            }
            let lines = if line == "reboot" { self.reboot() } else { vec![line.to_owned()] };
            for line in &lines {
                let World { fuse, kafka, .. } = &mut *world;
                let told = kafka.told(self.node().as_ref(), line, fuse)?;
                let done = told.and_then(|()| self.step(line, &mut bodies, &mut staged));
                if let Err(why) = done.and_then(|()| self.zookeeper(host, line, &mut world.ensemble)) {
                    let _infallible = writeln!(out, "failed|{number}|{}", STANDARD.encode(why));
                    return Some((out, 1));
                }
            }
            if self.down {
                return None;
            }
            let _infallible = writeln!(out, "done|{number}");
        }
        Some((out, 0))
    }

    /// What a reboot does to units. The connection ends with it.
    fn reboot(&mut self) -> Vec<String> {
        self.boots += 1;
        self.down = true;
        self.fails.extend(self.fails_after_boot.clone());
        let verb = |unit: &String| match (self.active.contains(unit), self.enabled.contains(unit)) {
            (true, true) => format!("restart|{unit}"),
            (true, false) => format!("halt|{unit}"),
            (false, _) => format!("start|{unit}"),
        };
        self.active.union(&self.enabled).map(verb).collect()
    }

    /// The broker of this host, by its files.
    fn node(&self) -> Option<kafka::Node> {
        let (properties, ..) = self.files.get("/etc/aesop/kafka/server.properties")?;
        let settings = crate::kafka::settings::parse(&String::from_utf8_lossy(properties));
        let (old, new) = (27, 29);
        let runs_old = |file: &FakeFile| String::from_utf8_lossy(&file.0).contains("/kafka-4.1");
        let roles = settings.get("process.roles").map_or("broker", String::as_str);
        Some(kafka::Node {
            id: settings.get("node.id").or_else(|| settings.get("broker.id"))?.parse().ok()?,
            address: settings.get("listeners")?.clone(),
            rack: settings.get("broker.rack").cloned(),
            level: if self.files.values().any(runs_old) { old } else { new },
            controller: roles.contains("controller"),
            broker: roles.contains("broker"),
            mode: if settings.contains_key("zookeeper.connect") {
                KafkaMode::ZooKeeper
            } else {
                KafkaMode::Kraft
            },
            empty: !self.files.contains_key(KAFKA_PROPERTIES),
            min_in_sync: settings.get("min.insync.replicas").and_then(|text| text.parse().ok()).unwrap_or(1),
        })
    }

    fn myid(&self) -> Option<u32> {
        let (text, ..) = self.files.get("/var/lib/aesop/zookeeper/myid")?;
        String::from_utf8_lossy(text).trim().parse().ok()
    }

    /// A server that runs keeps what it hears.
    fn hear(&mut self, host: &str, ensemble: &Ensemble) {
        if self.ensemble.is_some() && !self.configured {
            self.ensemble = ensemble.heard(host).or_else(|| self.ensemble.take());
        }
    }

    /// What a line means to ZooKeeper.
    fn zookeeper(&mut self, host: &str, line: &str, ensemble: &mut Ensemble) -> Result<(), String> {
        let fields: Vec<&str> = line.split('|').collect();
        self.hear(host, ensemble);
        match fields.as_slice() {
            [verb @ ("start" | "restart"), UNIT] => {
                if *verb == "restart" {
                    ensemble.stop(host);
                }
                self.configured = false;
                let first = self.files.get("/etc/aesop/zookeeper/first.dynamic");
                let first = first.map(|file| String::from_utf8_lossy(&file.0).into_owned());
                let known = self.ensemble.get_or_insert_with(|| EnsembleFact {
                    members: first.unwrap_or_default(),
                    ..EnsembleFact::default()
                });
                let known = known.clone();
                ensemble.start(host, self.myid().ok_or("no myid")?, &known);
            }
            ["halt" | "retire", UNIT] => ensemble.stop(host),
            ["member", _, args] => {
                let args: Vec<&str> = args.split(' ').collect();
                let values = |name: &'static str| -> Vec<&str> {
                    let pairs = args.windows(2);
                    pairs.filter_map(|pair| pair.strip_prefix(&[name])?.first().copied()).collect()
                };
                match args.first().copied() {
                    Some("zookeeper-config") => {
                        if args.contains(&"--set-aside") {
                            ensemble.set_aside(host);
                        }
                        let members = values("--server").into_iter();
                        let members =
                            members.fold(String::new(), |all, server| all + "server." + server + "\n");
                        self.ensemble = Some(EnsembleFact { members, ..EnsembleFact::default() });
                        self.configured = true;
                    }
                    Some("zookeeper-join") => ensemble.join(host, values("--server").concat().as_str())?,
                    Some("zookeeper-leave") => ensemble.leave(values("--id").concat().as_str())?,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn is_poisoned(&self) -> bool {
        let Some(poison) = &self.poison else { return false };
        self.files.values().any(|file| String::from_utf8_lossy(&file.0).contains(poison))
    }

    /// Hashes of files and targets of links.
    pub fn disk(&self) -> BTreeMap<String, String> {
        let files = self.files.iter().map(|(path, file)| (path.clone(), sha256(&file.0)));
        files.chain(self.links.clone()).collect()
    }

    fn step<'a>(
        &mut self,
        line: &str,
        bodies: &mut impl Iterator<Item = &'a Body>,
        staged: &mut Vec<(String, FakeFile)>,
    ) -> Result<(), String> {
        let fields: Vec<String> = line.split('|').map(str::to_owned).collect();
        let field = |index: usize| fields.get(index).cloned().unwrap_or_default();
        let (op, a, b) = (field(0), field(1), field(2));
        if !SILENT.contains(&op.as_str()) {
            let object = match op.as_str() {
                "file" => field(4),
                "commit" => String::new(),
                _ => a.clone(),
            };
            self.log.push(format!("{op} {object}"));
        }
        match op.as_str() {
            "lock" => {
                if self.lock.as_ref().is_some_and(|held| *held != a) {
                    return Err(format!("locked by {}", self.lock.clone().unwrap_or_default()));
                }
                self.lock = Some(a);
                self.operation = field(5);
            }
            "unlock" => self.lock = self.lock.take().filter(|held| *held != a),
            "audit" => self.audit.push(a),
            "manifest" => self.manifest = text(bodies.next())?,
            "ids" => {
                let ids = text(bodies.next())?;
                if self
                    .lock_file
                    .as_ref()
                    .and_then(|have| have.split_once('\n'))
                    .is_none_or(|have| have.1 != ids)
                {
                    self.lock_file = Some(format!("# generation {a}\n{ids}"));
                }
            }
            "generation" => {
                self.generation = a.parse().map_err(|_| "not a number".to_owned())?;
                self.generations.insert(self.generation, (text(bodies.next())?, field(3)));
                let keep = b.parse().map_err(|_| "not a number".to_owned())?;
                while self.generations.len() > keep {
                    self.generations.pop_first();
                }
            }
            "halt" => drop(self.active.remove(&a)),
            "retire" => {
                self.active.remove(&a);
                self.enabled.remove(&a);
                self.records.remove(&a);
            }
            "remove" => {
                self.files.remove(&a);
                self.links.remove(&a);
            }
            "rmdir" => {
                let below = format!("{a}/");
                let paths = self.files.keys().chain(self.links.keys()).chain(self.directories.keys());
                let stored = crate::service::paths::ARTIFACTS.starts_with(&a) && !self.artifacts.is_empty();
                if !stored && !paths.into_iter().any(|path| path.starts_with(&below)) {
                    self.directories.remove(&a);
                }
            }
            "artifact-remove" => drop(self.artifacts.remove(&a)),
            "remove-data" => {
                let below = format!("{a}/");
                let gone = |path: &String| *path == a || path.starts_with(&below);
                self.files.retain(|path, _| !gone(path));
                self.links.retain(|path, _| !gone(path));
                self.directories.retain(|path, _| !gone(path));
            }
            "putback" => {
                for path in a.split(' ') {
                    match self.former.get(path).cloned().flatten() {
                        Some(file) => drop(self.files.insert(path.to_owned(), file)),
                        None => drop(self.files.remove(path)),
                    }
                }
            }
            // Whether it may stop is another question than whether it is ready.
            "gate" if self.is_poisoned() && !field(3).contains("-stop ") => {
                return Err(format!("{a} does not stay up"));
            }
            "packages" => self.packages.extend(a.split(' ').map(str::to_owned)),
            "user" => drop(self.users.insert(a)),
            "directory" => drop(self.directories.insert(field(4), (a, b, field(3)))),
            "link" => drop(self.links.insert(a, b)),
            "part" => drop(bodies.next()),
            "artifact-end" => drop(self.artifacts.insert(a)),
            "file" => {
                staged.push((field(4), (Vec::new(), a, b, field(3))));
            }
            "commit" => {
                let mut contents = unpack(bodies.next(), &a)?;
                for (path, mut file) in staged.drain(..) {
                    file.0 = contents.remove(&path).ok_or_else(|| format!("{path} is not in the archive"))?;
                    let former = self.files.insert(path.clone(), file);
                    self.former.insert(path, former);
                }
            }
            "daemon-reload" => self.unread.clear(),
            "enable" => self.enabled.extend(a.split(' ').map(str::to_owned)),
            "start" | "restart" => {
                let on_zookeeper = self.node().is_some_and(|node| node.mode == KafkaMode::ZooKeeper);
                if a == kafka::UNIT && on_zookeeper {
                    let made = || (b"version=0\n".to_vec(), "600".into(), "kafka".into(), "kafka".into());
                    self.files.entry(KAFKA_PROPERTIES.to_owned()).or_insert_with(made);
                }
                self.started_with.insert(a.clone(), self.disk());
                self.loaded_with.insert(a.clone(), self.disk());
                self.active.insert(a);
            }
            "member" if b.starts_with("kafka-settings") => {
                drop(self.loaded_with.insert("aesop-kafka.service".to_owned(), self.disk()));
            }
            "reload" => drop(self.loaded_with.insert(a, self.disk())),
            "started" => drop(self.records.insert(a, format!("{b}|{}|0", field(3)))),
            "ready" => drop(self.records.insert(a, format!("{b}|{}|1", field(3)))),
            "kafka-format" => {
                let file = (
                    format!("cluster.id={}\n", field(4)).into_bytes(),
                    "600".to_owned(),
                    "kafka".to_owned(),
                    "kafka".to_owned(),
                );
                self.files.insert(field(6), file);
            }
            "touch" | "member" | "artifact" | "sysctl" | "gate" | "downtime" | "downtime-end" => {}
            unknown => return Err(format!("unknown step {unknown}")),
        }
        Ok(())
    }
}

/// The files of an archive by their paths in the end.
fn unpack(body: Option<&Body>, size: &str) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let Some(Body::Bytes(bytes)) = body else { return Err("no bytes".to_owned()) };
    if bytes.len().to_string() != size {
        return Err(format!("{} bytes instead of {size}", bytes.len()));
    }
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(bytes.as_ref());
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let path = entry.path().map_err(|error| error.to_string())?.display().to_string();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).map_err(|error| error.to_string())?;
        if let Some((folder, name)) = format!("/{path}").split_once("/.aesop-new/") {
            files.insert(format!("{folder}/{name}"), content);
        }
    }
    Ok(files)
}

fn text(body: Option<&Body>) -> Result<String, String> {
    match body {
        Some(Body::Text(text)) => Ok(String::from_utf8_lossy(text).into_owned()),
        Some(Body::Bytes(_) | Body::File(_)) | None => Err("no text".to_owned()),
    }
}
