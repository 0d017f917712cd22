//! Making, growing, shrinking and leaving a lab.

use super::host::Host;
use super::prepare::Folders;
use super::spec::{HostKind, HostSpec, LabSpec, OnProgress, Progress};
use super::state::{self, HostState, Images, Owner, State};
use super::{LabError, Result, Subnet, image, net, packages, prepare, recipe, teardown};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Hosts booting at once: more only wait for the same processors.
const BOOTING_MAX: usize = 8;

/// A lab that is up. One made by [`Lab::create`] and not persistent is removed when this value is dropped.
#[derive(Debug)]
pub struct Lab {
    state: State,
    owned: bool,
}

impl Lab {
    /// Makes a lab and waits until all its hosts answer. On failure nothing of it is left.
    pub fn create(spec: &LabSpec, on_progress: OnProgress<'_>) -> Result<Self> {
        spec.validate()?;
        packages::ensure_packages(on_progress)?;
        clean_stale(on_progress)?;
        for host in &spec.hosts {
            image::ensure(recipe::of(host.release), on_progress)?;
        }
        let state = {
            let _labs = state::lock_labs()?;
            let state = new_state(spec)?;
            state.save()?;
            state
        };
        // From here on, dropping removes what is there.
        let mut lab = Self { state, owned: true };
        lab.make_ground()?;
        lab.add_all(&spec.hosts, on_progress)?;
        lab.owned = !spec.persistent;
        Ok(lab)
    }

    /// A lab that is up already, made by this process or another; dropping the value leaves it up.
    pub fn attach(name: &str) -> Result<Self> {
        Ok(Self { state: State::load(name)?, owned: false })
    }

    fn make_ground(&self) -> Result<()> {
        let state = &self.state;
        {
            let _labs = state::lock_labs()?;
            state::raise_inotify()?;
        }
        let _lab = state::lock_lab(&state.name)?;
        fs::create_dir_all(&state.work_dir).map_err(LabError::file("make", &state.work_dir))?;
        fs::write(state.work_dir.join(teardown::MARKER), "")
            .map_err(LabError::file("write", &state.work_dir))?;
        prepare::make_key(&prepare::client_key(state), &format!("lab {}", state.name))?;
        net::make_bridge(&state.bridge(), state.subnet)
    }

    /// Adds a host and waits until it answers.
    pub fn add(&self, spec: &HostSpec, on_progress: OnProgress<'_>) -> Result<Host> {
        self.add_all(std::slice::from_ref(spec), on_progress)?;
        self.host(&spec.name)
    }

    /// Adds hosts, several at a time, and waits until all answer.
    pub fn add_all(&self, specs: &[HostSpec], on_progress: OnProgress<'_>) -> Result<Vec<Host>> {
        let hosts = specs.iter().map(|spec| self.enter(spec, on_progress)).collect::<Result<Vec<_>>>()?;
        let mut errors = Vec::new();
        for wave in hosts.chunks(BOOTING_MAX) {
            let boot = |host: &Host| {
                on_progress(&Progress::Booting(host.name().to_owned()));
                host.prepare_and_boot()?;
                on_progress(&Progress::Up(host.name().to_owned()));
                Ok(())
            };
            errors.extend(in_parallel(wave, &boot));
        }
        LabError::all(errors)?;
        Ok(hosts)
    }

    /// Writes a new host into the state.
    fn enter(&self, spec: &HostSpec, on_progress: OnProgress<'_>) -> Result<Host> {
        let checked = LabSpec::new(self.name()).host(spec.clone());
        checked.validate()?;
        let system = image::ensure(recipe::of(spec.release), on_progress)?;
        let mysql = match spec.kind {
            HostKind::MySql97 => Some(image::ensure(&recipe::MYSQL, on_progress)?),
            HostKind::Plain | HostKind::MariaDb | HostKind::Mail => None,
        };
        let _lab = state::lock_lab(self.name())?;
        let mut state = State::load(self.name())?;
        if state.host(&spec.name).is_ok() {
            return Err(LabError::Spec(format!("lab {} has a host {} already", state.name, spec.name)));
        }
        let taken: Vec<u8> = state.hosts.iter().map(|host| host.number).collect();
        let host = HostState {
            name: spec.name.clone(),
            kind: spec.kind,
            sudo: spec.sudo,
            number: net::choose_number(&spec.name, spec.number, &taken)?,
            machine: net::machine_name(&state.id, &spec.name),
            images: Images { system, mysql },
        };
        state.hosts.push(host.clone());
        state.save()?;
        Ok(Host::new(&state, host))
    }

    /// Stops a host and boots it with another last number of its address: its name, disk and keys stay.
    pub fn readdress(&self, name: &str, number: u8) -> Result<Host> {
        self.host(name)?.stop()?;
        let host = {
            let _lab = state::lock_lab(self.name())?;
            let mut state = State::load(self.name())?;
            let taken: Vec<u8> = state.hosts.iter().map(|host| host.number).collect();
            let number = net::choose_number(name, Some(number), &taken)?;
            state.hosts.iter_mut().filter(|host| host.name == name).for_each(|host| host.number = number);
            let host = state.host(name)?.clone();
            state.save()?;
            prepare::write_network(&state, &host, &Folders::new(&state, name))?;
            prepare::write_directory(&state)?;
            Host::new(&state, host)
        };
        host.boot()?;
        Ok(host)
    }

    /// Removes a host as if the machine had burnt: nothing is shut down.
    pub fn remove(&self, name: &str) -> Result<()> {
        let _lab = state::lock_lab(self.name())?;
        let mut state = State::load(self.name())?;
        let host = state.host(name)?.clone();
        teardown::remove_host(&state, &host)?;
        state.hosts.retain(|other| other.name != name);
        state.save()?;
        prepare::write_directory(&state)
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> Result<Host> {
        let state = State::load(self.name())?;
        Ok(Host::new(&state, state.host(name)?.clone()))
    }

    /// All hosts, in the order they were added.
    pub fn hosts(&self) -> Result<Vec<Host>> {
        let state = State::load(self.name())?;
        Ok(state.hosts.iter().map(|host| Host::new(&state, host.clone())).collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Its network.
    pub fn subnet(&self) -> Subnet {
        self.state.subnet
    }

    /// This machine's address in it.
    pub fn gateway(&self) -> Ipv4Addr {
        self.state.subnet.gateway()
    }

    /// The link that all its hosts are attached to.
    pub fn bridge(&self) -> String {
        self.state.bridge()
    }

    /// The folder of overlays, keys and logs.
    pub fn work_dir(&self) -> &Path {
        &self.state.work_dir
    }

    /// The private key for [`SSH_USER`](super::SSH_USER).
    pub fn ssh_key(&self) -> PathBuf {
        prepare::client_key(&self.state)
    }

    /// A `known_hosts` file with the keys of all hosts, by address and name.
    pub fn known_hosts(&self) -> PathBuf {
        prepare::known_hosts(&self.state)
    }

    /// The password of [`DATABASE_USER`](super::DATABASE_USER), and of `deploy` where sudo asks for one.
    pub fn password(&self) -> &str {
        &self.state.password
    }

    /// Lets it stay up after its creator has ended.
    pub fn persist(&mut self) -> Result<()> {
        let _lab = state::lock_lab(self.name())?;
        let mut state = State::load(self.name())?;
        state.persistent = true;
        state.save()?;
        self.owned = false;
        Ok(())
    }

    /// Removes it and says what could not be removed, which dropping can only log.
    pub fn down(mut self) -> Result<()> {
        self.owned = false;
        teardown::down(self.name())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        match teardown::down(self.name()) {
            Ok(()) | Err(LabError::NoLab(_)) => {}
            Err(error) => tracing::error!(lab = self.name(), %error, "lab not removed"),
        }
    }
}

/// Runs `work` on all hosts at once; every failure is reported.
fn in_parallel(hosts: &[Host], work: &(dyn Fn(&Host) -> Result<()> + Sync)) -> Vec<LabError> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = hosts.iter().map(|host| scope.spawn(move || work(host))).collect();
        let results = threads.into_iter().zip(hosts).map(|(thread, host)| {
            let panicked = |_| Err(LabError::Spec(format!("host {}: its thread panicked", host.name())));
            thread.join().unwrap_or_else(panicked)
        });
        results.filter_map(Result::err).collect()
    })
}

/// The state of a lab to be. Under the lock of all labs.
fn new_state(spec: &LabSpec) -> Result<State> {
    if state::all().iter().any(|lab| lab.name == spec.name) {
        return Err(LabError::Spec(format!(
            "lab {0} is up already; remove it first: aesop lab down {0}",
            spec.name
        )));
    }
    let subnets: Vec<Subnet> = state::all().iter().map(|lab| lab.subnet).collect();
    let default = || image::cache_dir().join("lab").join("run").join(&spec.name);
    let work_dir = spec.work_dir.clone().unwrap_or_else(default);
    check_work_dir(&work_dir)?;
    let id = net::lab_id(&spec.name);
    if net::link_exists(&net::bridge_name(&id)) {
        return Err(LabError::Spec(format!(
            "there is a link {} already; remove it (`ip link delete`) or name the lab otherwise",
            net::bridge_name(&id)
        )));
    }
    Ok(State {
        name: spec.name.clone(),
        id,
        owner: Owner::me(),
        persistent: spec.persistent,
        subnet: net::choose(spec.subnet, &subnets)?,
        work_dir,
        password: uuid::Uuid::new_v4().simple().to_string(),
        hosts: Vec::new(),
    })
}

/// A folder that the lab may use and remove: new, or left by a lab that a reboot of the machine ended.
fn check_work_dir(dir: &Path) -> Result<()> {
    // mount(8) and the kernel's mount table give these a meaning.
    if !dir.is_absolute() || dir.to_string_lossy().contains([' ', ',', ':', '\\', '\n', '\t']) {
        let text = "the lab's folder must be an absolute path without spaces, commas, colons and backslashes";
        return Err(LabError::Spec(format!("{}: {text}", dir.display())));
    }
    if !dir.exists() {
        return Ok(());
    }
    if !dir.join(teardown::MARKER).exists() {
        return Err(LabError::Spec(format!(
            "{} exists and is not a lab's; choose another folder",
            dir.display()
        )));
    }
    super::mount::unmount_below(dir)?;
    image::remove_dir(dir)
}

/// Builds or finds the images that labs need, so that a later [`Lab::create`] is quick.
pub fn prepare_images(mysql: bool, on_progress: OnProgress<'_>) -> Result<()> {
    packages::ensure_packages(on_progress)?;
    image::ensure(&recipe::DEBIAN_12, on_progress)?;
    if mysql {
        image::ensure(&recipe::MYSQL, on_progress)?;
    }
    Ok(())
}

/// Removes labs whose creator is gone although they were not to outlive it.
pub fn clean_stale(on_progress: OnProgress<'_>) -> Result<()> {
    for lab in state::all().into_iter().filter(State::stale) {
        on_progress(&Progress::Stale(lab.name.clone()));
        match teardown::down(&lab.name) {
            // Another process was quicker.
            Ok(()) | Err(LabError::NoLab(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
