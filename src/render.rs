//! Templates: context in, text out. Strict: a name that is not there is an error, not an empty value.

use minijinja::{Environment, UndefinedBehavior, context, syntax::SyntaxConfig};
use std::collections::BTreeMap;

/// Why a template did not render. Never the values that it was given: they may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}template {name}{}: {message}", if *overridden { "your " } else { "" }, at(*line))]
pub struct RenderError {
    /// Its name: the path below `templates/`.
    pub name: String,
    /// Line in it.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// It comes from the folder beside the inventory.
    pub overridden: bool,
}

fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

macro_rules! builtin {
    ($($name:literal,)*) => {
        /// Templates that are part of the program.
        const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../templates/", $name)))),*];
    };
}

builtin! {
    "agent/agent.yml.j2",
    "base/sysctl.conf.j2",
    "consumer/consumer.yml.j2",
    "jolokia/agent.properties.j2",
    "jolokia/policy.xml.j2",
    "jvm/log4j2.j2",
    "jvm/service.j2",
    "kafka/log4j.properties.j2",
    "kafka/log4j2.properties.j2",
    "kafka/server.properties.j2",
    "kafka/tools-log4j2.properties.j2",
    "monitor/monitor.yml.j2",
    "relay/relay.yml.j2",
    "systemd/hardening.j2",
    "systemd/lag-report.service.j2",
    "systemd/lag-report.timer.j2",
    "systemd/program.service.j2",
    "zookeeper/dynamic.j2",
    "zookeeper/log4j2.properties.j2",
    "zookeeper/logback.xml.j2",
    "zookeeper/prepare.sh.j2",
    "zookeeper/zoo.cfg.j2",
}

/// The templates of one run.
#[derive(Debug)]
pub struct Templates {
    environment: Environment<'static>,
    overridden: Vec<String>,
}

impl Templates {
    /// The built-in ones, but for those that `overrides` replaces by name.
    pub fn new(overrides: &BTreeMap<String, String>) -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| explain("", &error, false))?);
        let mut overridden = Vec::new();
        for (name, source) in BUILTIN {
            let source = match overrides.get(*name) {
                Some(own) => {
                    overridden.push((*name).to_owned());
                    own.clone()
                }
                None => (*source).to_owned(),
            };
            let own = overrides.contains_key(*name);
            environment.add_template_owned(*name, source).map_err(|error| explain(name, &error, own))?;
        }
        if let Some(unknown) = overrides.keys().find(|name| !Self::names().any(|known| known == *name)) {
            return Err(RenderError {
                name: unknown.clone(),
                line: 0,
                message: format!("there is no such template to override; there are {}", {
                    Self::names().collect::<Vec<_>>().join(", ")
                }),
                overridden: true,
            });
        }
        Ok(Self { environment, overridden })
    }

    /// Names of all templates.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// Those that the user has replaced.
    pub fn overridden(&self) -> &[String] {
        &self.overridden
    }

    /// Renders a template.
    pub fn render(&self, name: &str, values: impl Into<minijinja::Value>) -> Result<String, RenderError> {
        let own = self.overridden.iter().any(|known| known == name);
        self.environment
            .get_template(name)
            .and_then(|template| template.render(values.into()))
            .map_err(|error| explain(name, &error, own))
    }

    /// Renders a text of the user's; `name` is for messages.
    pub fn render_own(
        &self,
        name: &str,
        text: &str,
        values: minijinja::Value,
    ) -> Result<String, RenderError> {
        self.environment.render_named_str(name, text, values).map_err(|error| explain(name, &error, true))
    }

    /// Renders a template of a configuration file from its typed value, as `config`.
    pub fn render_config(&self, name: &str, config: &impl serde::Serialize) -> Result<String, RenderError> {
        self.render(name, context! { config => minijinja::Value::from(minijinja::value::Serde(config)) })
    }
}

/// Name, line and kind; the detail names variables but holds no values.
fn explain(name: &str, error: &minijinja::Error, overridden: bool) -> RenderError {
    RenderError {
        name: error.name().unwrap_or(name).to_owned(),
        line: error.line().unwrap_or(0),
        message: match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        },
        overridden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_name_that_is_not_there_is_an_error_that_shows_no_value() {
        let overrides = BTreeMap::from([(
            "base/sysctl.conf.j2".to_owned(),
            "# {{ cluster }}\nkernel = {{ nonsense }}\n".to_owned(),
        )]);
        let templates = Templates::new(&overrides).unwrap();
        assert_eq!(templates.overridden(), ["base/sysctl.conf.j2"]);
        let error = templates.render("base/sysctl.conf.j2", context! { cluster => "hunter2" }).unwrap_err();
        expect!["your template base/sysctl.conf.j2, line 2: undefined value: `nonsense` is undefined"]
            .assert_eq(&error.to_string());
    }

    #[test]
    fn an_override_of_nothing_is_refused() {
        let overrides = BTreeMap::from([("kafka/server.propertys.j2".to_owned(), String::new())]);
        assert!(Templates::new(&overrides).unwrap_err().to_string().contains("there is no such template"));
    }
}
