//! A reader who does what a page says, from its first block to its last: writes the files, types the commands, and
//! compares what comes.

use std::fs;
use std::path::{Path, PathBuf};

use super::expected;
use super::page::{self, Block, Mark, Typed};
use crate::program::{self, Server};

/// The port that pages name; the servers of tests have ports of their own.
const PORT: &str = "8288";

pub struct Reader {
    /// Everything that the reader writes is below this folder.
    home: tempfile::TempDir,
    /// Where the reader works now.
    here: PathBuf,
    /// Where the page began.
    first: PathBuf,
    /// How many empty folders the page has asked for.
    folders: usize,
    servers: Vec<(String, Typed, Server)>,
}

impl Reader {
    /// A reader in a copy of the folder that the page is about: its example, else the repository's own project.
    pub fn of(page: &str) -> Reader {
        let home = tempfile::tempdir().unwrap();
        let first = home.path().join("stepwell");
        match page.strip_suffix("/README.md") {
            Some(example) => program::copy(&program::repository().join(example), &[], &first),
            None => program::copy(program::repository(), &["events.yaml", "handlers", "schemas", "tests", "examples"], &first),
        }
        Reader { here: first.clone(), first, home, folders: 0, servers: Vec::new() }
    }

    /// Does what the blocks say, in order.
    pub fn read(mut self, blocks: &[Block], not_run: &[&str]) {
        for block in blocks {
            self.go(block);
            if block.language == "console" {
                self.type_in(block, not_run);
            } else {
                self.write(block);
            }
        }
        for (at, typed, server) in self.servers {
            let port = server.port.to_string();
            let (status, printed) = server.stop();
            assert!(status.success(), "{at}: the server ended with {status}:\n{printed}");
            let mut expected = typed.expected.clone();
            expected.push("...".to_owned());
            compare(&at, &typed.command, &expected, &printed.replace(&port, PORT));
        }
    }

    fn go(&mut self, block: &Block) {
        if block.is(&Mark::FirstFolder) {
            self.here.clone_from(&self.first);
        }
        if block.is(&Mark::EmptyFolder) {
            self.folders += 1;
            self.here = self.home.path().join(format!("empty-{}", self.folders));
            fs::create_dir(&self.here).unwrap();
        }
    }

    fn write(&self, block: &Block) {
        for mark in &block.marks {
            match mark {
                Mark::File(path) => self.put(path, &block.text),
                Mark::Append(path) => self.put(path, &format!("{}{}", self.text(path), block.text)),
                Mark::AddTo(path) => self.put(path, &page::add_sections(&self.text(path), &block.text)),
                Mark::SameAs(path) => {
                    let file = fs::read_to_string(program::repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
                    assert_eq!(block.text, file, "{}: the block is not what {path} says", block.at);
                }
                _ => {}
            }
        }
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.here.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.here.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
        fs::write(path, text).unwrap();
    }

    fn type_in(&mut self, block: &Block, not_run: &[&str]) {
        for typed in page::commands(block) {
            let command = typed.command.replace("cargo run --release --", "stepwell");
            if block.is(&Mark::NotRun) {
                assert!(not_run.contains(&command.as_str()), "{}: `{command}` is not in the list of what is not run", block.at);
            } else if block.is(&Mark::Background) {
                let mut server = program::command("sh", &self.here);
                let server = Server::start(server.args(["-c", &format!("exec {command}")]));
                self.servers.push((block.at.clone(), typed, server));
            } else {
                self.run(&block.at, &command, &typed);
            }
        }
    }

    fn run(&mut self, at: &str, command: &str, typed: &Typed) {
        let port = self.servers.last().map(|(_, _, server)| server.port.to_string());
        let command = port.as_ref().map_or(command.to_owned(), |port| command.replace(PORT, port));
        let cwd = self.home.path().join("cwd");
        // A `cd` holds for the commands after it, as in the reader's own shell.
        let script = format!("{{ {command}\n}} 2>&1; code=$?; pwd > '{}'; exit $code", cwd.display());
        let mut shell = program::command("sh", &self.here);
        if let Some((_, _, server)) = self.servers.last() {
            shell.env("STEPWELL_URL", server.url());
        }
        let output = shell.args(["-c", &script]).output().expect("sh is there");
        self.here = PathBuf::from(fs::read_to_string(cwd).unwrap().trim_end());
        let mut printed = String::from_utf8(output.stdout).expect("UTF-8");
        if let Some(port) = port {
            printed = printed.replace(&port, PORT);
        }
        let code = output.status.code().unwrap_or(-1);
        assert_eq!(code, typed.exit, "{at}: the exit code of `{}`, which printed:\n{printed}", typed.command);
        compare(at, &typed.command, &typed.expected, &printed);
    }
}

fn compare(at: &str, command: &str, expected: &[String], printed: &str) {
    let shown = expected.join("\n");
    assert!(expected::fits(expected, printed), "{at}: `{command}`\n--- the page shows\n{shown}\n--- it prints\n{printed}");
}
