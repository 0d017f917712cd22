//! What both JVMs have in common: Java, Jolokia, logs, the unit.

use super::inputs::Inputs;
use super::{ArtifactRef, File, Part, ServiceError, paths};
use crate::inventory::model::Java;
use crate::secret::Secret;
use minijinja::context;

/// The Jolokia agent's artifact.
pub(super) const JOLOKIA: &str = "jolokia-2.6.0";
/// The one file of it.
pub(super) const JOLOKIA_JAR: &str = "jolokia-agent-jvm-2.6.0-javaagent.jar";
/// What the agent and `aesop ready` read the password from.
pub(super) const JOLOKIA_PASSWORD: &str = "/etc/aesop/secrets/jolokia-password";
/// Where a package puts it.
pub(super) const JAVA: &str = "/usr/bin/java";
const MIB: u64 = 1 << 20;

/// How a JVM's classes write their log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Logging {
    Log4j2,
    /// What is left of log4j 1, which Kafka up to 3.9 knows by name.
    Reload4j,
}

/// A JVM service.
pub(super) struct Jvm<'a> {
    pub(super) service: &'a str,
    pub(super) description: &'a str,
    pub(super) main: String,
    pub(super) artifact: &'a ArtifactRef,
    pub(super) jolokia_port: u16,
    pub(super) heap: Option<u64>,
    /// Share of the host's memory where no heap is given.
    pub(super) heap_percent: &'a str,
    pub(super) before: Vec<String>,
    pub(super) options: Vec<String>,
    pub(super) writable: Vec<String>,
    pub(super) stop_timeout_secs: u32,
    pub(super) logging: Logging,
}

pub(super) fn java(inputs: &Inputs<'_>) -> String {
    match &inputs.inventory.java {
        Java::Package(_) => JAVA.to_owned(),
        Java::Home(home) => home.join("bin/java").display().to_string(),
    }
}

pub(super) fn unit_path(unit: &str) -> String {
    format!("{}/{unit}", paths::UNITS)
}

/// Adds the unit and all the files of a JVM; returns what a restart depends on.
pub(super) fn add(
    inputs: &Inputs<'_>,
    host: &str,
    part: &mut Part,
    jvm: Jvm<'_>,
) -> Result<Vec<String>, ServiceError> {
    let cluster = &inputs.inventory.cluster;
    let (service, templates) = (jvm.service, inputs.templates);
    let password = inputs.secret("jolokia", host)?;
    let jolokia = inputs.artifact(JOLOKIA, host)?;
    let log = format!("{}/{service}", paths::LOG);

    let properties_path = format!("{}/jolokia-{service}.properties", paths::SECRETS);
    let properties = templates.render(
        "jolokia/agent.properties.j2",
        context! { port => jvm.jolokia_port, password => password.expose() },
    )?;
    part.files.push(File::secret(&properties_path, service, &Secret::new(properties)));
    part.files.push(File::secret(
        JOLOKIA_PASSWORD,
        "aesop",
        &Secret::new(format!("{}\n", password.expose())),
    ));
    let policy_path = format!("{}/jolokia-policy.xml", paths::ETC);
    part.files.push(File::new(&policy_path, templates.render("jolokia/policy.xml.j2", context! {})?));
    let log_file = match jvm.logging {
        Logging::Log4j2 => "log4j2.properties",
        Logging::Reload4j => "log4j.properties",
    };
    let log_path = format!("{}/{service}/{log_file}", paths::ETC);
    let log_config = templates.render(&format!("{service}/{log_file}.j2"), context! { service })?;
    part.files.push(File::new(&log_path, log_config));

    let heap = match jvm.heap {
        Some(bytes) => vec![format!("-Xms{}m", bytes / MIB), format!("-Xmx{}m", bytes / MIB)],
        None => vec![format!("-XX:MaxRAMPercentage={}", jvm.heap_percent)],
    };
    let mut options = heap;
    options.extend(
        [
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
        ]
        .map(str::to_owned),
    );
    options.push(format!("-Xlog:gc*:file={log}/gc.log:time,tags:filecount=4,filesize=8m"));
    options.push(match jvm.logging {
        Logging::Log4j2 => format!("-Dlog4j2.configurationFile={log_path}"),
        Logging::Reload4j => format!("-Dlog4j.configuration=file:{log_path}"),
    });
    options.push(format!("-javaagent:{}/{JOLOKIA_JAR}=config={properties_path}", jolokia.directory()));
    // /tmp may be mounted noexec, and compression libraries are unpacked and loaded from there.
    let unpack = format!("{}/{service}", paths::CACHE);
    options.push(format!("-Djava.io.tmpdir={unpack}"));
    part.directories.push(super::base::directory(&unpack, 0o700, service));
    options.extend(jvm.options);
    let mut writable = jvm.writable;
    writable.push(log);
    writable.push(unpack);
    let unit = format!("aesop-{service}.service");
    let values = context! {
        cluster,
        description => jvm.description,
        user => service,
        before => jvm.before,
        java => java(inputs),
        options,
        artifact => jvm.artifact.directory(),
        main => jvm.main,
        stop_timeout_secs => jvm.stop_timeout_secs,
        writable,
    };
    part.files.push(File::new(unit_path(&unit), templates.render("jvm/service.j2", values)?));
    part.artifacts.extend([jvm.artifact.clone(), jolokia]);
    Ok(vec![unit_path(&unit), properties_path, policy_path, log_path])
}
