//! Every help text, so that a change of the command line is seen in review.

use expect_test::expect_file;
use std::fmt::Write;

#[test]
fn every_help_text() {
    let mut text = String::new();
    let mut command = aesop::cli::command().term_width(100);
    command.build();
    render(&mut command, &mut text);
    let version = env!("CARGO_PKG_VERSION");
    expect_file!["../help.txt"].assert_eq(&text.replace(version, "[VERSION]"));
}

fn render(command: &mut clap::Command, text: &mut String) {
    writeln!(
        text,
        "===== {}\n\n{}",
        command.get_bin_name().unwrap_or("aesop").to_owned(),
        command.render_long_help()
    )
    .unwrap();
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        // The global flags are the same everywhere and stand under `aesop`.
        let globals = ["inventory", "on", "format", "color", "parallel", "version"];
        for name in globals {
            *sub = sub.clone().mut_args(|arg| if arg.get_id() == name { arg.hide(true) } else { arg });
        }
        render(sub, text);
    }
}
