//! Collects what the file, the environment and the flags say.

use std::{collections::BTreeMap, env, fs, path::Path};

use clap::ArgMatches;
use toml::{Table, Value};

use super::{
    Given, KAFKA, Origin, Setting,
    command::{flag_name, innermost, variable_name},
};

/// The property that the setting `kafka` stands for.
const BOOTSTRAP: &str = "bootstrap.servers";
/// Variables of `ksched`, `ksched-client` and scripts, which shells hold for long: not worth a note.
const NOT_SETTINGS: [&str; 7] = [
    "KSCHED_BIN",
    "KSCHED_CACHE",
    "KSCHED_COMMIT",
    "KSCHED_CONFIG",
    "KSCHED_DATABASE_URL",
    "KSCHED_LOCAL_DIR",
    "KSCHED_SERVER",
];
const PASS_THROUGH: &str = "kafka.";
const PASS_THROUGH_VARIABLE: &str = "KSCHED_KAFKA__";

/// Properties that the promises rest on, with the values they have whatever is given;
/// what has none differs from client to client. Another value would be passed over in
/// silence, or break a client at run time.
const OURS: [(&str, &[&str]); 9] = [
    ("acks", &["all", "-1"]),
    ("request.required.acks", &["all", "-1"]),
    ("enable.idempotence", &["true"]),
    ("isolation.level", &["read_committed"]),
    ("enable.auto.commit", &["false"]),
    ("enable.auto.offset.store", &["false"]),
    ("auto.offset.reset", &["error"]),
    ("group.id", &[]),
    ("transactional.id", &[]),
];

/// The process's environment, without what is not Unicode.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
}

impl Given {
    /// Collects all layers, the weakest first so that a stronger one overwrites it.
    /// `environment` is [`environment()`] but in tests.
    pub fn gather(
        table: &'static [Setting],
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut given = Self {
            table,
            values: BTreeMap::new(),
            kafka: BTreeMap::new(),
            mistakes: Vec::new(),
            notes: Vec::new(),
        };
        let matches = innermost(matches);
        let environment: BTreeMap<String, String> =
            environment.into_iter().filter(|(name, _)| name.starts_with("KSCHED_")).collect();
        let file = matches.get_one::<String>("config").or_else(|| environment.get("KSCHED_CONFIG"));
        if let Some(file) = file {
            given.add_file(Path::new(file));
        }
        given.add_environment(environment);
        given.add_flags(matches);
        given
    }

    fn add_file(&mut self, path: &Path) {
        let table = match fs::read_to_string(path).map_err(|e| e.to_string()) {
            Ok(text) => text.parse::<Table>().map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        match table {
            Ok(table) => self.add_table(path, "", &table),
            Err(why) => self.mistakes.push(format!("{}: {}", path.display(), why.trim_end())),
        }
    }

    fn add_table(&mut self, path: &Path, prefix: &str, table: &Table) {
        for (key, value) in table {
            let name = format!("{prefix}{key}");
            if let Value::Table(inner) = value {
                self.add_table(path, &format!("{name}."), inner);
                continue;
            }
            let Some(text) = plain_text(value) else {
                self.mistakes.push(format!("{name} (in {}): a text or a number is expected", path.display()));
                continue;
            };
            let origin = Origin::File(path.to_owned());
            match name.strip_prefix(PASS_THROUGH) {
                Some(property) => self.add_property(property, text, origin),
                None => self.add(&name, text, origin),
            }
        }
    }

    /// A variable that is not known is noted, not refused: an orchestrator may set
    /// some of its own, such as `KSCHED_PORT` for a service called ksched.
    fn add_environment(&mut self, environment: BTreeMap<String, String>) {
        for (variable, text) in environment {
            let origin = Origin::Environment(variable.clone());
            if let Some(property) = variable.strip_prefix(PASS_THROUGH_VARIABLE) {
                self.add_property(&property.to_lowercase().replace('_', "."), text, origin);
            } else if let Some(setting) = self.table.iter().find(|s| variable_name(s.name) == variable) {
                self.values.insert(setting.name, (text, origin));
            } else if !NOT_SETTINGS.contains(&&*variable) {
                self.notes.push(format!("environment variable {variable} is not a setting of this program"));
            }
        }
    }

    fn add_flags(&mut self, matches: &ArgMatches) {
        for setting in self.table {
            if let Some(text) = matches.get_one::<String>(setting.name) {
                let origin = Origin::Flag(format!("--{}", flag_name(setting.name)));
                self.values.insert(setting.name, (text.clone(), origin));
            }
        }
        for pair in matches.get_many::<String>("property").into_iter().flatten() {
            match pair.split_once('=') {
                Some((property, text)) => {
                    self.add_property(property, text.to_owned(), Origin::Flag("-X".to_owned()));
                }
                None => self.mistakes.push(format!("-X {pair}: PROPERTY=VALUE is expected")),
            }
        }
    }

    fn add_property(&mut self, property: &str, text: String, origin: Origin) {
        if property == BOOTSTRAP {
            // The setting's own flag or variable is the plainer word: it wins within a layer.
            self.values.insert(KAFKA.name, (text, origin));
        } else if let Some((_, ours)) =
            OURS.iter().find(|(name, ours)| *name == property && !ours.contains(&&*text))
        {
            let value = ours.first().map_or(String::new(), |value| format!(" to {value}"));
            self.mistakes.push(format!("kafka.{property} ({origin}): ksched itself sets it{value}"));
        } else {
            self.kafka.insert(property.to_owned(), (text, origin));
        }
    }

    fn add(&mut self, name: &str, text: String, origin: Origin) {
        if let Some(setting) = self.table.iter().find(|s| s.name == name && s.name != KAFKA.name) {
            self.values.insert(setting.name, (text, origin));
            return;
        }
        let same = |s: &&Setting| flag_name(s.name) == name.replace(['.', '_'], "-");
        let hint = match self.table.iter().find(same) {
            Some(s) if s.name == KAFKA.name => format!("; it is written {PASS_THROUGH}{BOOTSTRAP}"),
            Some(s) => format!("; it is written {}", s.name),
            None => String::new(),
        };
        self.mistakes.push(format!("{name} ({origin}): there is no such setting{hint}"));
    }
}

/// A value as it would be written as a flag; a list is joined by commas.
fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(items) => items.iter().map(plain_text).collect::<Option<Vec<_>>>().map(|t| t.join(",")),
        Value::Datetime(_) | Value::Table(_) => None,
    }
}
