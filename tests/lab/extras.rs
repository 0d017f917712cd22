//! What a user puts on hosts besides, through every way that an apply can go.

use crate::site::{Site, write};
use aesop::lab::{Host, HostSpec};
use std::fs;

/// Files, an artifact and units of the user's own: made, restarted where something of theirs changed, put back where a
/// unit does not stay up, and removed.
pub(crate) fn come_change_are_put_back_and_go() {
    let site = Site::new("extras", vec![HostSpec::new("one")]);
    let one = site.host("one");
    let unit = |name: &str, command: &str| {
        let text =
            format!("[Service]\nUser=mine\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n");
        fs::write(site.file(name), text).expect("a unit");
    };
    fs::write(site.file("main.j2"), "level {{ vars.level }} on {{ host.name }}\n").expect("a template");
    fs::write(site.file("token.j2"), "{{ secrets.token }}\n").expect("a template");
    fs::write(site.file("run.sh"), "#!/bin/sh\nexec sleep infinity\n").expect("an artifact");
    unit("first.service", "/opt/mine/run");
    unit("second.service", "sleep infinity");
    let with = |level: &str| {
        site.inventory(&format!(
            "cluster: site
ssh: {{user: deploy}}
hosts: {{one: {{address: {address}}}}}
extras:
  mine:
    hosts: [\"*\"]
    vars: {{level: {level}}}
    secrets: {{token: {{env: LAB_PASSWORD}}}}
    users: [mine]
    directories: {{/opt/mine: {{}}, /etc/mine: {{mode: 750, owner: mine}}, /srv/small: {{}}}}
    files:
      /etc/mine/main: {{template: main.j2, owner: mine, mode: 640}}
      /etc/mine/token: {{template: token.j2, owner: mine, secret: true}}
      /srv/small/main: {{template: main.j2}}
    artifacts: {{/opt/mine/run: {{file: run.sh, executable: true}}}}
    units:
      first.service: {{file: first.service, restart_on: [/etc/mine/main]}}
      second.service: {{file: second.service, restart_on: []}}
",
            address = site.address("one")
        ));
    };
    let run = |argv: &[&str]| one.run(argv).expect("a command on the host");
    let runs = || ["first", "second"].map(|name| run(&["systemctl", "show", "-p", "InvocationID", name]));
    run(&["mkdir", "/srv/small"]);
    one.small_disk("/srv/small", 16).expect("a small disk");
    with("low");
    let said = site.ok(&["apply", "--yes", "--format", "json"]).stdout;
    let events: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"planned"), Some(&"finished")), "{said}");
    assert_eq!(events.last().map(|event| &event["success"]), Some(&true.into()), "{said}");
    assert_eq!(run(&["cat", "/etc/mine/main"]).trim(), "level low on one");
    assert_eq!(run(&["stat", "-c", "%a %U:%G", "/etc/mine/main"]).trim(), "640 mine:mine");
    assert_eq!(run(&["stat", "-c", "%a %U:%G", "/etc/mine/token"]).trim(), "600 mine:mine");
    assert_eq!(run(&["cat", "/etc/mine/token"]).trim(), site.lab.password());
    assert!(!said.contains(site.lab.password()));
    site.ok(&["plan", "--exit-code"]);
    assert!(site.ok(&["status"]).stdout.contains("extra/mine"), "it is ready");

    let before = runs();
    with("high");
    site.ok(&["apply", "--yes"]);
    let after = runs();
    assert!(before[0] != after[0] && before[1] == after[1], "{before:?}, then {after:?}");
    assert_eq!(run(&["cat", "/etc/mine/main"]).trim(), "level high on one");

    write(&one, "/etc/mine/main", "edited\n");
    let plan = site.ok(&["plan"]).stdout;
    assert!(plan.contains("one: /etc/mine/main (edited)"), "{plan}");
    site.ok(&["apply", "--yes"]);

    an_edited_audit_log_is_found(&site, &one);
    a_disk_that_is_full_leaves_all_as_it_was(&site, &one, &with);
    what_arrives_damaged_is_not_used(&site, &one);

    unit("first.service", "/bin/false");
    let (code, said) = site.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1));
    assert!(said.stderr.contains("first.service does not stay up"), "{}", said.stderr);
    assert!(said.stderr.contains("the former files were put back"), "{}", said.stderr);
    assert_eq!(run(&["systemctl", "is-active", "first"]).trim(), "active");
    unit("first.service", "/opt/mine/run");
    site.ok(&["apply", "--yes"]);
    site.ok(&["plan", "--exit-code"]);

    site.inventory(&format!(
        "cluster: site\nssh: {{user: deploy}}\nhosts: {{one: {{address: {}}}}}\n",
        site.address("one")
    ));
    site.ok(&["apply", "--yes"]);
    let left = run(&[
        "sh",
        "-c",
        "ls -d /etc/mine /opt/mine /etc/systemd/system/first.service 2>/dev/null; systemctl is-active first second; true",
    ]);
    assert_eq!(left.trim(), "inactive\ninactive");
}

/// Somebody changes what was written down, on a host and here: each is found, by its line.
fn an_edited_audit_log_is_found(site: &Site, host: &Host) {
    let log = "/var/log/aesop/audit.log";
    site.ok(&["audit", "--hosts"]);
    let edit = |expression: &str| {
        host.run(&["sed", "-i", expression, log]).expect("an edit");
        let said = site.aesop(&["audit", "--hosts"]);
        (said.0, said.1.stderr)
    };
    let (code, said) = edit("2s/ aesop / AESOP /");
    assert!(code == Some(1) && said.contains(&format!("{}: {log}:2: its hash", host.name())), "{said}");
    let (code, said) = edit("2s/ AESOP / aesop /");
    assert_eq!(code, Some(0), "as it was: {said}");
    let kept = host.run(&["cat", log]).expect("the log");
    let (code, said) = edit("1d");
    assert!(code == Some(1) && said.contains(&format!("{log}:1: its hash")), "{said}");
    write(host, log, &kept);

    let path = site.file("site.audit");
    let text = fs::read_to_string(&path).expect("the log here");
    fs::write(&path, text.replacen("\"started\"", "\"refused\"", 1)).expect("an edit");
    let (code, said) = site.aesop(&["audit"]);
    assert!(code == Some(1) && said.stderr.contains("site.audit:1: its hash"), "{}", said.stderr);
    fs::write(&path, text).expect("as it was");
    site.ok(&["audit", "--hosts"]);
}

/// Preflight does not look at the disks of extras: the first write fails, and nothing of its call is put in place.
fn a_disk_that_is_full_leaves_all_as_it_was(site: &Site, host: &Host, with: &dyn Fn(&str)) {
    let run = |argv: &[&str]| host.run(argv).expect("a command on the host");
    let unit = || run(&["systemctl", "show", "-p", "InvocationID", "first"]);
    let before = unit();
    host.fill_disk("/srv/small").expect("a full disk");
    with("more");
    let (code, said) = site.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    for words in ["cannot write files: ", "No space left on device", " 100% /srv/small"] {
        assert!(said.stderr.contains(words), "no {words:?} in\n{}", said.stderr);
    }
    for path in ["/etc/mine/main", "/srv/small/main"] {
        assert_eq!(run(&["cat", path]).trim(), "level high on one");
    }
    let aside = run(&["find", "/etc/mine", "/srv/small", "/etc/systemd/system", "-name", "*aesop-new*"]);
    assert_eq!(
        (aside.as_str(), unit()),
        ("", before.clone()),
        "nothing lies about, and nothing was restarted"
    );
    host.free_disk("/srv/small").expect("room again");
    site.ok(&["apply", "--yes"]);
    assert_eq!(run(&["cat", "/srv/small/main"]).trim(), "level more on one");
    assert_ne!(unit(), before);
}

/// Something on the host changes what was sent, before it is looked at; what ran goes on.
fn what_arrives_damaged_is_not_used(site: &Site, host: &Host) {
    let runs = || host.run(&["readlink", "/opt/mine/run"]).expect("a link");
    let before = runs();
    let damages = "/usr/local/sbin/chmod";
    write(
        host,
        damages,
        "#!/bin/sh\n/bin/chmod \"$@\" && case $2 in *.new/run) echo damage >>\"$2\" ;; esac\n",
    );
    host.run(&["/bin/chmod", "755", damages]).expect("a program");
    fs::write(site.file("run.sh"), "#!/bin/sh\n# another\nexec sleep infinity\n").expect("an artifact");
    let (code, said) = site.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    for words in ["arrived damaged: run: FAILED", "apply again; where it happens again, look at the disk"] {
        assert!(said.stderr.contains(words), "no {words:?} in\n{}", said.stderr);
    }
    assert_eq!(runs(), before);
    host.run(&["systemctl", "is-active", "first"]).expect("it runs on");
    host.run(&["rm", damages]).expect("no damage any more");
    site.ok(&["apply", "--yes"]);
    assert_ne!(runs(), before);
}
