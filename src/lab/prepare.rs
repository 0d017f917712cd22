//! What a host's own files say: name, address, keys, rights, and the configuration of what runs there.

use super::command::Cmd;
use super::image::{enable, write};
use super::spec::{HostKind, Sudo};
use super::state::{HostState, State, write_private};
use super::{DATABASE_PORT, DATABASE_USER, LabError, Result, SSH_USER, mount};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Where MySQL's folder appears on its host.
pub(super) const MYSQL_ROOT: &str = "opt/mysql97";
/// The account's number in the image.
const SSH_UID: u32 = 1000;

/// The folders of one host on the machine.
#[derive(Debug)]
pub(super) struct Folders {
    pub(super) dir: PathBuf,
}

impl Folders {
    pub(super) fn new(state: &State, host: &str) -> Self {
        Self { dir: state.host_dir(host) }
    }

    /// What the host sees as `/`.
    pub(super) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub(super) fn mysql(&self) -> PathBuf {
        self.dir.join("mysql").join("root")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub(super) fn disks(&self) -> PathBuf {
        self.dir.join("disks")
    }

    fn host_key(&self) -> PathBuf {
        self.dir.join("ssh_host_ed25519_key")
    }
}

pub(super) fn client_key(state: &State) -> PathBuf {
    state.work_dir.join("id_ed25519")
}

pub(super) fn known_hosts(state: &State) -> PathBuf {
    state.work_dir.join("known_hosts")
}

pub(super) fn make_key(path: &Path, comment: &str) -> Result<()> {
    Cmd::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path)
        .run()
        .map(drop)
}

/// Mounts a host's overlays, unless they are.
pub(super) fn mount_host(folders: &Folders, host: &HostState) -> Result<()> {
    if !mount::below(&folders.dir)?.is_empty() {
        return Ok(());
    }
    let dir = &folders.dir;
    mount::overlay(&host.images.system, &dir.join("upper"), &dir.join("work"), &folders.root())?;
    if let Some(image) = &host.images.mysql {
        let dir = dir.join("mysql");
        mount::overlay(image, &dir.join("upper"), &dir.join("work"), &folders.mysql())?;
    }
    Ok(())
}

/// Writes all that makes a host itself, once, before it boots for the first time.
pub(super) fn write_host(state: &State, host: &HostState, folders: &Folders) -> Result<()> {
    let root = folders.root();
    let root = root.as_path();
    write(root, "etc/hostname", &format!("{}\n", host.name), 0o644)?;
    write(root, "etc/machine-id", &format!("{}\n", uuid::Uuid::new_v4().simple()), 0o444)?;
    write_network(state, host, folders)?;
    make_key(&folders.host_key(), &host.name)?;
    for (suffix, mode) in [("", 0o600), (".pub", 0o644)] {
        let name = format!("ssh_host_ed25519_key{suffix}");
        write(root, &format!("etc/ssh/{name}"), &read(&folders.dir.join(name))?, mode)?;
    }
    write_account(state, host, root)?;
    write_service(state, host, folders)?;
    match host.kind.service() {
        Some((unit, _)) => enable(root, unit),
        None => Ok(()),
    }
}

/// Its address, as it takes it at its next boot.
pub(super) fn write_network(state: &State, host: &HostState, folders: &Folders) -> Result<()> {
    let (address, gateway) = (state.subnet.address(host.number), state.subnet.gateway());
    let net = format!(
        "address add {address}/24 dev host0\nlink set host0 up\nroute add default via {gateway} dev host0\n"
    );
    write(&folders.root(), "etc/lab-net", &net, 0o644)
}

fn write_account(state: &State, host: &HostState, root: &Path) -> Result<()> {
    let home = format!("home/{SSH_USER}/.ssh");
    let keys = format!("{home}/authorized_keys");
    write(root, &keys, &read(&client_key(state).with_extension("pub"))?, 0o600)?;
    for path in [&home, &keys] {
        let path = root.join(path);
        std::os::unix::fs::chown(&path, Some(SSH_UID), Some(SSH_UID))
            .map_err(LabError::file("chown", &path))?;
    }
    let rights = match host.sudo {
        Sudo::Passwordless => "ALL=(ALL:ALL) NOPASSWD: ALL",
        Sudo::Password => "ALL=(ALL:ALL) ALL",
        Sudo::None => return Ok(()),
    };
    write(root, "etc/sudoers.d/lab", &format!("{SSH_USER} {rights}\n"), 0o440)?;
    if host.sudo == Sudo::Password {
        let line = format!("{SSH_USER}:{}\n", state.password);
        Cmd::new("chroot").arg(root).arg("chpasswd").stdin(line.as_bytes()).run()?;
    }
    Ok(())
}

fn write_service(state: &State, host: &HostState, folders: &Folders) -> Result<()> {
    let root = folders.root();
    match host.kind {
        HostKind::Plain | HostKind::Mail => Ok(()),
        HostKind::MariaDb => {
            let mut config = server_config(host.number);
            config.push_str("log_bin = binlog\ninit_file = /etc/mysql/lab.sql\n");
            write(&root, "etc/mysql/mariadb.conf.d/99-lab.cnf", &config, 0o644)?;
            write(&root, "etc/mysql/lab.sql", &grants(&state.password), 0o644)
        }
        HostKind::MySql97 => {
            let mysql = folders.mysql();
            let mut config = server_config(host.number);
            config.push_str(
                "user = mysql\ndatadir = /var/lib/mysql\nsocket = /var/lib/mysql/mysqld.sock\n\
                 pid_file = /var/lib/mysql/mysqld.pid\nlog_bin = binlog\ngtid_mode = ON\n\
                 enforce_gtid_consistency = ON\nmysqlx = OFF\nperformance_schema = OFF\n\
                 init_file = /etc/mysql/lab.sql\n",
            );
            write(&mysql, "etc/mysql/lab.cnf", &config, 0o644)?;
            write(&mysql, "etc/mysql/lab.sql", &grants(&state.password), 0o644)?;
            // Where nspawn binds the overlay to.
            fs::create_dir_all(root.join(MYSQL_ROOT))
                .map_err(LabError::file("make", root.join(MYSQL_ROOT)))?;
            write(&root, "etc/systemd/system/mysql97.service", &mysql_unit(), 0o644)
        }
    }
}

/// The part that both servers read: row events with all columns of both images and the columns' names.
fn server_config(server_id: u8) -> String {
    format!(
        "[mysqld]\nserver_id = {server_id}\nport = {DATABASE_PORT}\nbind_address = 0.0.0.0\nskip_name_resolve = ON\n\
         binlog_format = ROW\nbinlog_row_image = FULL\nbinlog_row_metadata = FULL\n\
         innodb_buffer_pool_size = 64M\n"
    )
}

fn grants(password: &str) -> String {
    format!(
        "CREATE USER IF NOT EXISTS '{DATABASE_USER}'@'%' IDENTIFIED BY '{password}';\n\
         GRANT ALL ON *.* TO '{DATABASE_USER}'@'%' WITH GRANT OPTION;\n"
    )
}

fn mysql_unit() -> String {
    format!(
        "[Unit]\nDescription=MySQL 9.7\nAfter=network.target\n\n[Service]\nType=notify\nRootDirectory=/{MYSQL_ROOT}\n\
         MountAPIVFS=yes\nExecStart=/usr/sbin/mysqld --defaults-file=/etc/mysql/lab.cnf\nLimitNOFILE=65536\n\
         TimeoutStartSec=120\n\n[Install]\nWantedBy=multi-user.target\n"
    )
}

/// Tells every host and the machine's ssh which hosts there are.
pub(super) fn write_directory(state: &State) -> Result<()> {
    let mut names = "127.0.0.1 localhost\n".to_owned();
    let mut keys = String::new();
    for host in &state.hosts {
        let address = state.subnet.address(host.number);
        // Writing to a string cannot fail.
        writeln!(names, "{address} {}", host.name).ok();
        // A host that is being made has no key yet; it writes the directory again when it has.
        if let Ok(key) = fs::read_to_string(Folders::new(state, &host.name).host_key().with_extension("pub"))
        {
            writeln!(keys, "{address},{} {}", host.name, key.trim_end()).ok();
        }
    }
    write_private(&known_hosts(state), keys.as_bytes())?;
    for host in &state.hosts {
        let root = Folders::new(state, &host.name).root();
        if root.join("etc").exists() {
            write(&root, "etc/hosts", &names, 0o644)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(LabError::file("read", path))
}
