//! `secrets`: the environment variables that scripts read with `secret(name)`.

use crate::base::Diagnostic;

use super::super::reader::Reader;
use super::super::spanned::{Spanned, Table};
use super::env::EnvValue;
use super::names::variable_problem;

/// Notes bad names, names listed twice, and names that `env` gives a value.
pub(in crate::config) fn check(secrets: &[Spanned<String>], env: &Table<Spanned<EnvValue>>, reader: &mut Reader) {
    for (at, secret) in secrets.iter().enumerate() {
        if let Some(mut problem) = variable_problem(&secret.value, &secret.place) {
            if secret.value.len() > 40 || secret.value.contains(['=', '.', '-']) {
                problem = problem.help("list the names of the secrets only; their values stay in the environment");
            }
            reader.note(problem);
        }
        if let Some(first) = secrets[..at].iter().find(|first| first.value == secret.value) {
            reader.note(
                Diagnostic::error("E0104", format!("the secret `{}` is listed twice", secret.value))
                    .labelled(secret.place.clone(), "again here")
                    .labelled(first.place.clone(), "first here"),
            );
        }
        if let Some((name, _)) = env.entry(&secret.value) {
            reader.note(
                Diagnostic::error("E0128", format!("`{}` is a secret, and `env` gives it a value", secret.value))
                    .labelled(name.place.clone(), "a value in the file")
                    .labelled(secret.place.clone(), "listed as a secret")
                    .help("a secret's value comes from the environment alone: remove it from one of the two"),
            );
        }
    }
}
