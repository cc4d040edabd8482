//! The commands that need no engine.

use super::support::{Engine, Place};

#[test]
fn without_arguments_it_says_how_to_start() {
    Place::new().run(&[]).exits(2).says("stepwell init hello");
    Place::new().run(&["--help"]).exits(0).prints("Start here:");
    Place::new().run(&["--version"]).exits(0).prints(env!("CARGO_PKG_VERSION"));
    Place::new().run(&["no-such-command"]).exits(2);
}

#[test]
fn init_writes_a_project_and_never_overwrites_one() {
    let place = Place::new();
    place.run(&["init", "shop"]).exits(0).says("stepwell try hello/said --example");
    for file in [
        "events.yaml",
        "handlers/greet.rhai",
        "schemas/hello-said.json",
        "tests/greet.test.yaml",
        ".gitignore",
        ".vscode/extensions.json",
        ".vscode/settings.json",
        "Rhai.toml",
        ".stepwell/events.schema.json",
        ".stepwell/stepwell.d.rhai",
    ] {
        assert!(place.path(&format!("shop/{file}")).is_file(), "{file}");
    }
    place.write("shop/events.yaml", "mine");
    place.run(&["init", "shop"]).exits(73).says("already there: shop/events.yaml");
    assert_eq!(place.read("shop/events.yaml"), "mine");
    place.run(&["init", "shop", "--force"]).exits(0);
    assert!(place.read("shop/events.yaml").starts_with("# yaml-language-server:"));
    assert_eq!(place.read("shop/.gitignore"), ".stepwell/\n");
}

#[test]
fn what_init_writes_for_editors_leads_to_files_that_are_there() {
    let place = Place::new();
    place.write(".vscode/extensions.json", "mine");
    place.run(&["init"]).exits(0).says(".vscode/settings.json");
    assert_eq!(place.read(".vscode/extensions.json"), "mine", "what is there is left alone");
    let settings: serde_json::Value = serde_json::from_str(&place.read(".vscode/settings.json")).unwrap();
    let schemas = settings["yaml.schemas"].as_object().unwrap();
    assert_eq!(schemas.len(), 2);
    schemas.keys().for_each(|path| assert!(place.path(path).is_file(), "{path}"));
    let definitions = place.read(".stepwell/stepwell.d.rhai");
    assert!(definitions.contains("module static;") && definitions.contains("fn wait_for_event(name: String) -> Map | ();"));
    assert!(place.read("Rhai.toml").contains(".stepwell/*.d.rhai"));
    // It is made anew where it is old.
    place.write(".stepwell/stepwell.d.rhai", "old");
    place.run(&["validate"]).exits(0);
    assert_eq!(place.read(".stepwell/stepwell.d.rhai"), definitions);
}

#[test]
fn init_takes_a_template_and_keeps_the_lines_of_a_gitignore() {
    let place = Place::new();
    place.write(".gitignore", "target");
    place.run(&["init", "--template", "payments"]).exits(0).says("stepwell try payment/initiate --example");
    assert_eq!(place.read(".gitignore"), "target\n.stepwell/\n");
    place.run(&["init", "--template", "nothing", "other"]).exits(2);
}

#[test]
fn a_flag_can_be_set_by_its_variable() {
    let place = Place::hello();
    place.run_with(&["init"], &[("STEPWELL_FORCE", "1")], "").exits(0);
    place.run_with(&["init"], &[("STEPWELL_FORCE", "no")], "").exits(73);
    place.run_with(&["config"], &[("STEPWELL_JSON", "true")], "").exits(0).json();
}

#[test]
fn keys_are_long_and_never_twice_the_same() {
    let keys = || Place::new().run(&["keys", "new"]).exits(0).out;
    let (one, two) = (keys(), keys());
    assert_ne!(one, two);
    for (line, variable) in one.lines().zip(["STEPWELL_EVENT_KEYS=evt_", "STEPWELL_ADMIN_TOKEN=adm_", "STEPWELL_READ_TOKEN=read_"]) {
        assert!(line.starts_with(variable) && line.len() == variable.len() + 32, "{line}");
    }
}

#[test]
fn completions_come_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        Place::new().run(&["completions", shell]).exits(0).prints("stepwell");
    }
    // What many runs are chosen by is completed wherever many are meant.
    let bash = Place::new().run(&["completions", "bash"]).exits(0).out;
    for command in ["stepwell__subcmd__replay)", "stepwell__subcmd__runs__subcmd__cancel)"] {
        let options = bash.split(command).find_map(|rest| rest.trim_start().strip_prefix("opts=")).unwrap_or_else(|| panic!("{command}"));
        for option in ["--function", "--status", "--since", "--until", "--where", "--dry-run", "--yes"] {
            assert!(options.lines().next().unwrap().contains(option), "{command} {option}");
        }
    }
    Place::new().run(&["completions", "dos"]).exits(2);
}

#[test]
fn a_code_is_explained() {
    let place = Place::new();
    place.run(&["explain", "e0531"]).exits(0).prints("E0531: no engine answers");
    place.run(&["explain"]).exits(0).prints("E0102\t");
    place.run(&["explain", "E0532x"]).exits(3).says("did you mean `E0532`?");
}

#[test]
fn the_schema_is_printed_and_lies_beside_the_config() {
    let place = Place::hello();
    let schema = place.run(&["schema"]).exits(0).json();
    assert!(schema["properties"]["functions"].is_object());
    let kept: serde_json::Value = serde_json::from_str(&place.read(".stepwell/events.schema.json")).unwrap();
    assert_eq!(schema, kept);
    // `validate` and `dev` write it too, the former also beside a config that is broken.
    let file = place.path(".stepwell/events.schema.json");
    std::fs::remove_file(&file).unwrap();
    place.run(&["validate"]).exits(0);
    assert_eq!(place.read(".stepwell/events.schema.json"), format!("{schema:#}\n"));
    std::fs::write(&file, "{}").unwrap();
    place.write("events.yaml", &place.read("events.yaml").replace("functions:", "functoins:"));
    place.run(&["validate"]).exits(78);
    assert_eq!(place.read(".stepwell/events.schema.json"), format!("{schema:#}\n"));
    place.write("events.yaml", &place.read("events.yaml").replace("functoins:", "functions:"));
    std::fs::remove_file(&file).unwrap();
    drop(super::support::Engine::dev(&place, &["--ephemeral"]));
    assert_eq!(place.read(".stepwell/events.schema.json"), format!("{schema:#}\n"));
    place.run(&["validate", "nowhere/events.yaml"]).exits(78);
    assert!(!place.path("nowhere").exists());
}

#[test]
fn the_config_is_found_from_below_and_says_where_values_come_from() {
    let place = Place::hello();
    place.write("events.yaml", "version: 1\napp: shop\nengine: { listen: \"127.0.0.1:9000\" }\nsecrets: [STRIPE_KEY]\n");
    std::fs::create_dir_all(place.path("handlers/deep")).unwrap();
    let mut command = place.command();
    command.current_dir(place.path("handlers/deep")).arg("config");
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(output.contains("engine.listen\t127.0.0.1:9000\tevents.yaml:3\n"), "{output}");
    let variables = [("STRIPE_KEY", "sk_live_0123456789"), ("STEPWELL_LISTEN", "127.0.0.1:9100")];
    let ran = place.run_with(&["config"], &variables, "").exits(0);
    assert!(!ran.out.contains("sk_live"), "{}", ran.out);
    ran.prints("secrets.STRIPE_KEY\tset\tenvironment\n")
        .prints("engine.listen\t127.0.0.1:9100\tSTEPWELL_LISTEN\n")
        .prints("limits.memory\t64MB\tdefault\n");
    place.write("events.yaml", "version: 1\nfunktions: {}\n");
    place.run(&["config"]).exits(78).says("events.yaml:2:1").says("did you mean `functions`?");
    place.run(&["config", "-c"]).exits(2);
    Place::new().run(&["config"]).exits(78).says("error[E0530]");
    place.run(&["config", "nowhere.yaml"]).exits(78).says("nowhere.yaml");
}

#[test]
fn doctor_finds_a_broken_config_and_a_foreign_file() {
    let place = Place::hello();
    place.run(&["doctor"]).exits(0).prints("✓ config     events.yaml: 1 event, 1 function").prints("none yet at .stepwell/stepwell.db");
    place.write(".stepwell/stepwell.db", &"this is no database, whatever its name says\n".repeat(200));
    place.run(&["doctor"]).exits(74).prints("not a database of this engine");
    place.run(&["doctor", "--database", "nowhere.db"]).exits(0);
    place.write("events.yaml", "version: 1\nfunktions: {}\n");
    place.run(&["doctor", "--database", "nowhere.db"]).exits(78).prints("✗ config");
    let report = place.run(&["doctor", "--database", "nowhere.db", "--json"]).exits(78).json();
    assert_eq!(
        (&report["ok"], &report["checks"][0]["name"], &report["checks"][0]["finding"]),
        (&false.into(), &"config".into(), &"ill".into())
    );
    assert!(report["checks"][0]["advice"].as_str().unwrap().contains("stepwell validate"));
}

#[test]
fn doctor_says_what_to_do_about_files_secrets_and_runs_that_cannot_go_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let with = |functions: &str| format!("version: 1\nsecrets: [API_KEY]\nevents:\n  app/a: {{}}\nfunctions:\n{functions}");
    place.write("events.yaml", &with("  nap: { on: app/a }\n  other: { on: app/a }\n"));
    place.write("handlers/nap.rhai", "sleep(\"rest\", \"1h\")\n");
    place.write("handlers/other.rhai", "sleep(\"rest\", \"1h\")\n");
    let mut command = place.command();
    command.args(["dev", "--port", "0"]).env("API_KEY", "a-long-secret");
    let engine = Engine::start(command);
    place.ask(&engine, &["send", "app/a"]).exits(0);
    while place.ask(&engine, &["runs", "ls", "--status", "sleeping", "--json"]).json().as_array().unwrap().len() < 2 {}
    drop(engine);
    let found = place.run(&["doctor"]).exits(0);
    let found =
        found.prints("- secrets    the secret `API_KEY` is not in the environment").prints("✓ runs       2 unfinished, and each can go on");
    found.prints(" disk ").prints("✓ rights ").prints(" ms for a flush").prints("✓ clock ").prints(" files ");
    place.write("events.yaml", &with("  nap: { on: app/a }\n"));
    std::fs::set_permissions(place.path(".stepwell/stepwell.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let found = place.run(&["doctor"]).exits(0).prints("- rights     others may open .stepwell/stepwell.db (mode 644)");
    found
        .prints("chmod 600 .stepwell/stepwell.db")
        .prints("their function is not declared any more: 1 of other")
        .prints("stepwell runs cancel");
}

#[test]
fn doctor_names_a_page_that_went_bad() {
    use stepwell::store::Store as _;
    use stepwell::store::sqlite::{Options, Sqlite};
    let place = Place::hello();
    let path = place.path("stepwell.db");
    Sqlite::open(&path, Options::default()).unwrap().close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // A page that opening does not read: the one of an empty table.
    let logs = place.run(&["sql", "select rootpage from sqlite_schema where name = 'logs'", "--database", "stepwell.db"]).exits(0);
    let page: usize = logs.out.trim().parse().unwrap();
    bytes[(page - 1) * 4096..page * 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    assert_ne!(Sqlite::open(&path, Options { read_only: true, ..Options::default() }).unwrap().check(), Ok(Vec::new()));
    place.run(&["doctor", "--database", "stepwell.db"]).exits(74).prints("✗ integrity").prints("restore a backup");
}

#[test]
fn without_a_database_backup_and_sql_say_so() {
    let place = Place::hello();
    place.run(&["backup", "copy.db"]).exits(3).says("error[E0537]");
    place.run(&["sql", "select 1"]).exits(3).says("error[E0537]");
    assert!(!place.path("copy.db").exists() && !place.path(".stepwell/stepwell.db").exists());
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_pipe_gets_no_colour() {
    let place = Place::new();
    let program = place.command();
    let line = format!("{} schema | head -c 10", program.get_program().display());
    let output = std::process::Command::new("bash").args(["-o", "pipefail", "-c", &line]).current_dir(place.path(".")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.len() == 10 && output.stderr.is_empty(), "{output:?}");
    let mut colourful = place.command();
    let output = colourful.env_remove("NO_COLOR").args(["explain", "E0531"]).output().unwrap();
    assert!(!output.stdout.contains(&0x1b) && !output.stdout.is_empty(), "{output:?}");
}
