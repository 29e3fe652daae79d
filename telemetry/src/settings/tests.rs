use super::*;

const TABLE: &[Setting] = &[
    Setting { name: "listen", kind: Kind::Value, default: "127.0.0.1:1", help: "" },
    Setting { name: "lease-ttl", kind: Kind::Value, default: "5s", help: "" },
    Setting { name: "delivered.headers", kind: Kind::Value, default: "all", help: "" },
    Setting { name: "store", kind: Kind::Value, default: "memory", help: "" },
    INSECURE,
    KAFKA,
];

#[derive(Debug, PartialEq, Default)]
struct Config {
    listen: String,
    lease_ttl_ms: i64,
    headers: String,
    insecure: bool,
    kafka: String,
}

fn read(flags: &[&str], environment: &[(&str, &str)]) -> (Config, Given) {
    let matches = command("test", "", "0", TABLE).no_binary_name(true).get_matches_from(flags);
    let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let mut given = Given::gather(TABLE, &matches, environment);
    let mut config = Config::default();
    given.put("listen", &mut config.listen, address);
    given.put("lease-ttl", &mut config.lease_ttl_ms, duration_ms);
    given.put("delivered.headers", &mut config.headers, |t| Ok::<_, String>(t.to_owned()));
    given.put("insecure", &mut config.insecure, switch);
    given.put("kafka", &mut config.kafka, addresses);
    (config, given)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn the_stronger_layer_wins() {
    let file = file(
        "listen = \"a:1\"\nlease-ttl = \"1s\"\n[delivered]\nheaders = \"id\"\n\
         [kafka]\nlinger.ms = 5\nclient.id = \"f\"\n\"bootstrap.servers\" = [\"k:1\", \"l:2\"]\n",
    );
    let flags =
        ["--listen", "c:3", "-X", "client.id=x", "--insecure", "--config", file.path().to_str().unwrap()];
    let environment =
        [("KSCHED_LISTEN", "b:2"), ("KSCHED_LEASE_TTL", "2s"), ("KSCHED_KAFKA__LINGER_MS", "7")];
    let (config, given) = read(&flags, &environment);
    given.finish().unwrap();
    let expected = Config {
        listen: "c:3".to_owned(),
        lease_ttl_ms: 2_000,
        headers: "id".to_owned(),
        insecure: true,
        kafka: "k:1,l:2".to_owned(),
    };
    assert_eq!(config, expected);
    let kafka = given.kafka_properties();
    assert_eq!(kafka.get("linger.ms").map(String::as_str), Some("7"));
    assert_eq!(kafka.get("client.id").map(String::as_str), Some("x"));
}

#[test]
fn all_mistakes_are_told_together_with_their_place() {
    let file = file("lissten = \"a:1\"\nlease-ttl = 5\ndelivered_headers = \"id\"\nkafka = \"k:1\"\n");
    let flags = ["--listen", "nowhere", "-X", "linger.ms", "--config", file.path().to_str().unwrap()];
    let (_, given) = read(&flags, &[("KSCHED_INSECURE", "yes"), ("KSCHED_PORT", "tcp://1")]);
    let Mistakes(mistakes) = given.finish().unwrap_err();
    let text = mistakes.join("\n");
    assert_eq!(mistakes.len(), 7, "{text}");
    for part in [
        "lissten (in ",
        "it is written delivered.headers",
        "it is written kafka.bootstrap.servers",
        "lease-ttl: \"5\" (in ",
        "listen: \"nowhere\" (--listen): HOST:PORT is expected",
        "-X linger.ms: PROPERTY=VALUE is expected",
        "insecure: \"yes\" (in KSCHED_INSECURE): true or false",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(given.notes(), ["environment variable KSCHED_PORT is not a setting of this program"]);
}

#[test]
fn kafka_properties_that_the_promises_rest_on_are_refused_in_every_layer() {
    let file = file("[kafka]\nacks = 1\nisolation.level = \"read_committed\"\n");
    let flags = ["-X", "group.id=mine", "-X", "acks=all", "--config", file.path().to_str().unwrap()];
    let (_, given) = read(&flags, &[("KSCHED_KAFKA__ENABLE_IDEMPOTENCE", "false")]);
    let expected = [
        format!("kafka.acks (in {}): ksched itself sets it to all", file.path().display()),
        "kafka.enable.idempotence (in KSCHED_KAFKA__ENABLE_IDEMPOTENCE): ksched itself sets it to true"
            .to_owned(),
        "kafka.group.id (-X): ksched itself sets it".to_owned(),
    ];
    assert_eq!(given.finish(), Err(Mistakes(expected.into())));
    // What is as it will be anyway is no mistake.
    assert_eq!(given.kafka_properties().len(), 2);
}

#[test]
fn a_file_that_is_no_toml_or_of_other_types_is_told_with_the_rest() {
    let broken = file("listen = \nlease-ttl = 5s\n");
    let (_, given) = read(&["--config", broken.path().to_str().unwrap(), "--listen=x"], &[]);
    let Mistakes(mistakes) = given.finish().unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].starts_with(&broken.path().display().to_string()), "{mistakes:?}");

    let typed = file(
        "listen = 2027-01-01T00:00:00Z\ninsecure = 1\nlease-ttl = [5]\n[unheard]\nof = 1\n[store]\netcd = \"a\"\n",
    );
    let (_, given) = read(&["--config", typed.path().to_str().unwrap()], &[]);
    let Mistakes(mistakes) = given.finish().unwrap_err();
    for part in [
        "listen (in ",
        "a text or a number is expected",
        "insecure: \"1\" (in ",
        "lease-ttl: \"5\" (in ",
        "unheard.of (in ",
        "store.etcd (in ",
    ] {
        assert!(mistakes.iter().any(|mistake| mistake.contains(part)), "{part} is missing in {mistakes:?}");
    }
    assert_eq!(mistakes.len(), 5, "{mistakes:?}");
}

#[test]
fn what_is_in_force_is_shown_as_a_file_without_secrets() {
    let flags = ["config", "show", "--store", "etcd://root:hush@e:2379", "-X", "sasl.password=hush"];
    let (_, given) = read(&flags, &[]);
    let shown = given.show();
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("store = \"etcd://***@e:2379\"  # --store\n"), "{shown}");
    assert!(shown.contains("kafka.bootstrap.servers = \"127.0.0.1:9092\"  # default\n"), "{shown}");
    let again = file(&shown);
    let (_, given) = read(&["--config", again.path().to_str().unwrap()], &[]);
    given.finish().unwrap();
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let (_, given) = read(&["--config", "/nowhere/at/all.toml"], &[]);
    assert_eq!(given.finish().unwrap_err().0.len(), 1);
}

#[test]
fn the_task_is_told_by_the_subcommand() {
    let asked =
        |flags: &[&str]| task(&command("test", "", "0", TABLE).no_binary_name(true).get_matches_from(flags));
    assert_eq!(asked(&["--listen", "a:1"]), Task::Run);
    assert_eq!(asked(&["--listen", "a:1", "config", "show"]), Task::Show);
    assert_eq!(asked(&["config", "check", "--listen", "a:1"]), Task::Check);
}

#[test]
fn what_holds_a_secret_is_masked_and_nothing_else() {
    for secret in [
        "sasl.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.kerberos.kinit.cmd",
    ] {
        assert_eq!(masked(secret, "hush"), "***", "{secret}");
    }
    assert_eq!(masked("sasl.username", "me"), "me");
}
