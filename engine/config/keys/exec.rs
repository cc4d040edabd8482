//! `exec`: the commands that scripts may run.

use schemars::JsonSchema;

use crate::base::Diagnostic;

use super::super::reader::{Fields, MapShape, Reader, Value};
use super::super::spanned::Spanned;
use super::super::tree::Node;

/// Commands that run whatever they are told to.
const SHELLS: [&str; 14] = ["sh", "bash", "dash", "zsh", "ksh", "fish", "csh", "tcsh", "busybox", "env", "xargs", "nohup", "sudo", "su"];

/// The commands that scripts may run with `exec::run`.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Exec {
    /// The allowed commands, by name or whole path; default none.
    #[schemars(default)]
    pub allow: Vec<Spanned<String>>,
}

impl MapShape for Exec {
    const NAME: &'static str = "Exec";
}

impl Value for Exec {
    fn read(node: &Node, reader: &mut Reader) -> Option<Exec> {
        let mut fields = Fields::of::<Exec>(node, "`exec`", reader)?;
        let exec = Exec { allow: fields.optional("allow").unwrap_or_default() };
        fields.done();
        Some(exec)
    }
}

/// Notes commands that cannot be allowed.
pub(in crate::config) fn check(exec: &Exec, reader: &mut Reader) {
    for command in &exec.allow {
        let name = command.value.as_str();
        let last = name.rsplit('/').next().unwrap_or_default();
        let (why, help) = if name.contains(char::is_whitespace) {
            ("has arguments", "list the command alone; the script gives the arguments: exec::run(\"command\", [\"argument\"])")
        } else if last.is_empty() || name.contains('\0') || (name.contains('/') && !name.starts_with('/')) {
            ("is not a command", "write its name or its whole path")
        } else if SHELLS.contains(&last) {
            ("runs whatever it is told to", "list the commands that are needed, or a script of yours by its whole path")
        } else {
            continue;
        };
        reader.note(Diagnostic::error("E0135", format!("`{name}` {why}")).at(command.place.clone()).help(help));
    }
}
