use super::*;

const EXAMPLE: &str = include_str!("../../hither.example.toml");

fn of_file(text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    config.read_file(Path::new("hither.toml"), text).map(|()| config)
}

fn message(result: Result<Config, ConfigError>) -> String {
    result.expect_err("is refused").to_string()
}

#[test]
fn the_example_file_is_the_defaults() {
    if std::env::var_os("HITHER_WRITE_EXAMPLE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/hither.example.toml"), Config::example()).expect("writes");
        return;
    }
    assert_eq!(EXAMPLE, Config::example(), "run the tests once with HITHER_WRITE_EXAMPLE=1");
    assert_eq!(of_file(EXAMPLE).expect("reads"), Config::default());
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("hither.toml");
    std::fs::write(&path, "[node]\nlisten = \"127.0.0.1:1\"\nadvertise = \"file:1\"\n[log]\nlevel = \"file\"\n")
        .expect("writes");
    let environment = [("HITHER_NODE_LISTEN", "127.0.0.1:2"), ("HITHER_LOG_LEVEL", "environment")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = Overrides { log_level: Some("flag".to_owned()), ..Overrides::default() };
    let config = Config::load(Some(&path), environment, &flags).expect("loads");
    assert_eq!(config.log.level, "flag");
    assert_eq!(config.node.listen.port(), 2);
    assert_eq!(config.node.advertise, "file:1");
    assert_eq!(config.admin, Config::default().admin);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_valid_one() {
    assert_eq!(
        message(of_file("[node]\n\nlisen = \"127.0.0.1:1\"\n")),
        "hither.toml:3: there is no setting `node.lisen`; did you mean `node.listen`?"
    );
    assert_eq!(
        message(of_file("[clients]\nbeat = \"1s\"\n")),
        "hither.toml:2: there is no setting `clients.beat`; did you mean `clients.beat_interval`?"
    );
    assert!(message(of_file("listen = 1\n")).starts_with("hither.toml:1: there is no setting `.listen`"));
    let environment = [("HITHER_NODE_LISTENS".to_owned(), String::new())];
    assert_eq!(
        Config::load(None, environment, &Overrides::default()).expect_err("is refused").to_string(),
        "the environment variable HITHER_NODE_LISTENS: there is no setting `node.listens`; did you mean `node.listen`?"
    );
    let environment = [("HITHER_NOED_LISTEN".to_owned(), "127.0.0.1:7400".to_owned())];
    assert_eq!(
        Config::load(None, environment, &Overrides::default()).expect_err("is refused").to_string(),
        "the environment variable HITHER_NOED_LISTEN: there is no setting `noed.listen`; did you mean `node.listen`?"
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    let environment = [
        ("HITHER_URL", "hither://a"),
        ("HITHER_CLIENT_BEAT_INTERVAL", "1s"),
        ("HITHER_CONNECT_TIMEOUT", "x"),
        ("PATH", "/bin"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(Config::load(None, environment, &Overrides::default()).expect("loads"), Config::default());
}

#[test]
fn a_wrong_value_is_named_with_what_would_be_right() {
    for (text, expected) in [
        ("[clients]\nhello_timeout = 3\n", "hither.toml:2: `clients.hello_timeout` cannot be `3`: a time such as"),
        ("[clients]\nidle_timeout = \"-1s\"\n", "hither.toml:2: `clients.idle_timeout` cannot be `-1s`: a time"),
        ("[admin]\nlisten = \"0.0.0.0:7402\"\n", "hither.toml:2: `admin.listen` cannot be `0.0.0.0:7402`: a loopback"),
        ("[raft]\nprofile = \"fast\"\n", "hither.toml:2: `raft.profile` cannot be `fast`: `lan` or `slow`"),
        ("[node]\nadvertise = \"0.0.0.0:7400\"\n", "hither.toml:2: `node.advertise` cannot be"),
        ("[node]\nlisten = [1]\n", "hither.toml:2: `node.listen` cannot be `array`: a string"),
        ("[node]\nlisten = \n", "hither.toml:2: "),
    ] {
        let message = message(of_file(text));
        assert!(message.starts_with(expected), "{message}");
    }
}
