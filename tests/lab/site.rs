//! A few hosts and an inventory, worked on by `aesop` as its user runs it, with a `~/.ssh` of the test's own.

use crate::cluster::Said;
use crate::program;
use aesop::lab::{Host, HostSpec, Lab, LabSpec};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// The hosts, the inventory `site.yml` and what lies beside it.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) dir: TempDir,
    /// `~/.ssh` as `aesop` sees it.
    pub(crate) ssh: TempDir,
}

impl Site {
    pub(crate) fn new(name: &str, hosts: Vec<HostSpec>) -> Self {
        let spec = LabSpec::new(format!("{name}-{}", std::process::id()));
        let spec = hosts.into_iter().fold(spec, LabSpec::host);
        let lab = Lab::create(&spec, &|_| ()).expect("the lab boots");
        let site =
            Self { lab, dir: TempDir::new().expect("a folder"), ssh: TempDir::new().expect("a folder") };
        let config = format!(
            "Host *\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            site.lab.ssh_key().display(),
            site.lab.known_hosts().display()
        );
        fs::write(site.ssh.path().join("config"), config).expect("a file");
        site
    }

    pub(crate) fn host(&self, name: &str) -> Host {
        self.lab.host(name).expect("a host of the lab")
    }

    pub(crate) fn address(&self, name: &str) -> String {
        self.host(name).address().to_string()
    }

    pub(crate) fn inventory(&self, text: &str) {
        fs::write(self.dir.path().join("site.yml"), text).expect("the inventory is written");
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `aesop` with our `~/.ssh` in place of the user's, which only this process sees so.
    pub(crate) fn aesop(&self, args: &[&str]) -> (Option<i32>, Said) {
        self.aesop_with("", args)
    }

    /// The same with an SSH agent behind this socket.
    pub(crate) fn aesop_with(&self, agent: &str, args: &[&str]) -> (Option<i32>, Said) {
        let output = self.command(args).env("SSH_AUTH_SOCK", agent).output().expect("unshare runs");
        (output.status.code(), Said::from(output))
    }

    /// The same, to be started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_aesop"), &[&["-i", &self.file("site.yml")], args].concat())
    }

    /// Another program with our `~/.ssh`.
    pub(crate) fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = program::with_ssh(self.ssh.path(), name);
        command.args(args).env("LAB_PASSWORD", self.lab.password()).env("SSH_AUTH_SOCK", "");
        command
    }

    pub(crate) fn ok(&self, args: &[&str]) -> Said {
        let (code, said) = self.aesop(args);
        assert_eq!(code, Some(0), "aesop {}\n{}\n{}", args.join(" "), said.stdout, said.stderr);
        said
    }
}

/// Writes a file on a host.
pub(crate) fn write(host: &Host, path: &str, text: &str) {
    host.run_with_stdin(&["tee", path], text.as_bytes()).expect("a file on the host");
}
