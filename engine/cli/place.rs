//! Where a command finds the config and the database.

use std::path::{Path, PathBuf};

use crate::base::{Diagnostic, hex};
use crate::config::Model;

use super::exit::{Exit, Trouble};
use super::remote::DEFAULT_URL;

/// The config's usual name.
pub const CONFIG_NAME: &str = "events.yaml";
/// Beside the config: database, editor schema and lock; never under version control.
pub const STATE_FOLDER: &str = ".stepwell";

/// The config as an argument, for commands that are about the config.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgument {
    /// The config, or its folder [default: events.yaml here or in a folder above]
    #[arg(value_name = "CONFIG", env = "STEPWELL_CONFIG")]
    pub config: Option<PathBuf>,
}

/// The config as an option, for commands that have arguments of their own.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigOption {
    /// The config, or its folder [default: events.yaml here or in a folder above]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The engine's database, for commands that read it.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseOption {
    #[command(flatten)]
    pub config: ConfigOption,
    /// The database [default: the config's, usually .stepwell/stepwell.db beside it]
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
}

impl DatabaseOption {
    /// The database's path, whether it is there or not.
    ///
    /// # Errors
    /// Exit 78 where it depends on a config and there is none.
    pub fn path(&self) -> Result<PathBuf, Trouble> {
        match &self.database {
            Some(path) => Ok(path.clone()),
            None => {
                let config = existing_config(self.config.config.as_deref())?;
                let model = crate::config::load(&config).model.unwrap_or_default();
                Ok(database(&model, root(&config)))
            }
        }
    }
}

/// The config that is meant: `given`, or the nearest `events.yaml` from the working folder upwards.
///
/// # Errors
/// Exit 78 where there is none.
pub fn config(given: Option<&Path>) -> Result<PathBuf, Trouble> {
    if let Some(path) = given {
        return Ok(if path.is_dir() { path.join(CONFIG_NAME) } else { path.to_path_buf() });
    }
    let here = std::env::current_dir().map_err(|error| Trouble::file(Path::new("."), "read", &error))?;
    for (above, folder) in here.ancestors().enumerate() {
        let path = folder.join(CONFIG_NAME);
        if path.is_file() {
            // A relative path reads better in messages, where it is short.
            return Ok(if above == 0 { PathBuf::from(CONFIG_NAME) } else { path });
        }
    }
    let problem = Diagnostic::error("E0530", "no events.yaml here or in a folder above")
        .help("write one with `stepwell init`, or name it: `-c path/to/events.yaml`");
    Err(Trouble::new(Exit::Config, problem))
}

/// The engine that a command asks where none is named: the one that the config at hand starts.
///
/// # Errors
/// Exit 78 where a config is named and is not there, and where one is there that does not say where its engine listens: another
/// engine may listen where they do by default.
pub fn engine_url(given: Option<&Path>) -> Result<String, Trouble> {
    let path = match existing_config(given) {
        Ok(path) => path,
        Err(_) if given.is_none() => return Ok(DEFAULT_URL.to_owned()),
        Err(trouble) => return Err(trouble),
    };
    let loaded = crate::config::load(&path);
    let Some(model) = loaded.model else { return Err(Trouble::invalid(loaded.problems)) };
    Ok(match model.engine.listen() {
        address if address.port() == 0 => DEFAULT_URL.to_owned(),
        address if address.ip().is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
        address => format!("http://{address}"),
    })
}

/// The config that is meant, for commands that only look up a setting there and would go by defaults without it.
///
/// # Errors
/// Exit 78 where there is none.
pub fn existing_config(given: Option<&Path>) -> Result<PathBuf, Trouble> {
    let path = config(given)?;
    if path.exists() {
        return Ok(path);
    }
    let problem = Diagnostic::error("E0530", format!("there is no file `{}`", path.display()));
    Err(Trouble::new(Exit::Config, problem.help("`-c` names a config, or the folder of one")))
}

/// The folder that a config's paths are relative to.
pub fn root(config: &Path) -> &Path {
    match config.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Where a config keeps its database.
pub fn database(model: &Model, root: &Path) -> PathBuf {
    let path = Path::new(model.engine.database());
    if root == Path::new(".") { path.to_path_buf() } else { root.join(path) }
}

/// A variable of the environment, for a project that is loaded.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Writes the schemas of `events.yaml` and of test files, and the definitions of the handler API, beside the config, where editors
/// find them.
///
/// # Errors
/// Exit 74 for the disk.
pub fn write_editor_schema(root: &Path) -> Result<(), Trouble> {
    let folder = root.join(STATE_FOLDER);
    std::fs::create_dir_all(&folder).map_err(|error| Trouble::file(&folder, "make the folder", &error))?;
    let written = [
        ("events.schema.json", format!("{:#}\n", crate::config::schema())),
        ("tests.schema.json", format!("{:#}\n", crate::config::suite_schema())),
        ("stepwell.d.rhai", crate::script::definitions()),
    ];
    for (name, text) in written {
        let path = folder.join(name);
        if !std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            std::fs::write(&path, text).map_err(|error| Trouble::file(&path, "write", &error))?;
        }
    }
    Ok(())
}

/// A folder that goes with its value.
pub struct Throwaway {
    /// The folder; nobody else may look into it.
    pub path: PathBuf,
}

impl Throwaway {
    /// A new folder where temporary files go.
    ///
    /// # Errors
    /// Exit 74 where it cannot be made.
    pub fn new(purpose: &str) -> Result<Throwaway, Trouble> {
        use std::os::unix::fs::DirBuilderExt as _;
        let bytes = crate::clock::secret_bytes().map_err(|error| Trouble::file(Path::new("/dev/urandom"), "read", &error))?;
        let path = std::env::temp_dir().join(format!("stepwell-{purpose}-{}", hex::encode(&bytes[..8])));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| Trouble::file(&path, "make the folder", &error))?;
        Ok(Throwaway { path })
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // What cannot be removed lies in the folder for temporary files, where the system clears up.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
