//! The command line made of a table of settings.

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Kind, Setting};

/// What the program was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Run,
    /// `config show`: print what is in force.
    Show,
    /// `config check`: only tell mistakes.
    Check,
}

/// A command line with a flag for each setting, `--config FILE`, `-X property=value`,
/// and the subcommands `config show` and `config check`.
pub fn command(
    name: &'static str,
    about: &'static str,
    version: &'static str,
    table: &'static [Setting],
) -> Command {
    let config = Command::new("config")
        .about("Look at the settings instead of running")
        .subcommand_required(true)
        .subcommand(
            Command::new("show")
                .about("Print what is in force, secrets masked")
                .after_help(format!("Example:\n  {name} config show > {name}.toml")),
        )
        .subcommand(
            Command::new("check")
                .about("Tell every mistake")
                .after_help(format!("Example:\n  {name} --config {name}.toml config check")),
        );
    Command::new(name)
        .about(about)
        .version(version)
        .after_help(format!(
            "Settings: flags over KSCHED_… environment over the file over defaults.\n\n\
             Examples:\n  {name} config show > {name}.toml\n  {name} --config {name}.toml config check\n  \
             {name} --config {name}.toml"
        ))
        .arg(flag("config", "FILE").help("TOML file with settings [env: KSCHED_CONFIG]"))
        .args(table.iter().map(argument))
        .arg(
            Arg::new("property")
                .short('X')
                .value_name("PROPERTY=VALUE")
                .action(ArgAction::Append)
                .global(true)
                .help("Kafka property to pass through; may be repeated"),
        )
        .subcommand(config)
}

/// What a parsed command line asks for.
pub fn task(matches: &ArgMatches) -> Task {
    let config = matches.subcommand_matches("config");
    match config.and_then(ArgMatches::subcommand_name) {
        Some("show") => Task::Show,
        Some(_) => Task::Check,
        None => Task::Run,
    }
}

/// The innermost matches: global flags may stand before or behind a subcommand.
pub(super) fn innermost(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => innermost(inner),
        None => matches,
    }
}

/// `delivered.headers` is the flag `delivered-headers`.
pub(super) fn flag_name(setting: &str) -> String {
    setting.replace('.', "-")
}

/// `delivered.headers` is the variable `KSCHED_DELIVERED_HEADERS`.
pub(super) fn variable_name(setting: &str) -> String {
    format!("KSCHED_{}", setting.replace(['.', '-'], "_").to_uppercase())
}

fn argument(setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        text => format!("[default: {text}] "),
    };
    let help = format!("{} {default}[env: {}]", setting.help, variable_name(setting.name));
    let argument = flag(setting.name, "VALUE").help(help);
    match setting.kind {
        Kind::Value => argument,
        Kind::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
    }
}

fn flag(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(flag_name(name)).value_name(value).global(true)
}
