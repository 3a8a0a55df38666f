//! Starts other programs, and prints each command line first.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A command line: what is printed is what runs.
pub(crate) struct Cmd {
    shown: Vec<String>,
    command: Command,
}

impl Cmd {
    /// A program by name or path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        Self { shown: vec![quoted(program)], command: Command::new(program) }
    }

    /// The cargo that runs us, in the workspace root.
    pub(crate) fn cargo(root: &Path) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut cmd = Self::new(cargo);
        cmd.shown = vec!["cargo".to_owned()];
        cmd.within(root)
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(quoted(arg.as_ref()));
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// One environment variable more, printed in front of the command line.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.shown.insert(0, format!("{name}={}", quoted(value.as_ref())));
        self.command.env(name, value);
        self
    }

    /// Runs in this folder.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The command line as one would type it in the workspace root.
    pub(crate) fn line(&self) -> String {
        self.shown.join(" ")
    }

    /// Prints the command line, runs it, and fails where it fails.
    pub(crate) fn run(mut self) -> Result<()> {
        self.announce();
        let status =
            self.command.status().with_context(|| format!("cannot start `{}`", self.line()))?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.line());
        }
        Ok(())
    }

    /// Runs it without a word and returns what it printed.
    pub(crate) fn read(mut self) -> Result<Vec<u8>> {
        let output =
            self.command.output().with_context(|| format!("cannot start `{}`", self.line()))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed: {}\n{why}", self.line(), output.status);
        }
        Ok(output.stdout)
    }

    /// Runs it without a word; whether it succeeded, and all that it printed.
    pub(crate) fn outcome(mut self) -> Result<(bool, String)> {
        let output =
            self.command.output().with_context(|| format!("cannot start `{}`", self.line()))?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Prints the command line and becomes that program: signals and the exit code are its own.
    pub(crate) fn become_it(mut self) -> Result<()> {
        self.announce();
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            let error = self.command.exec();
            Err(error).with_context(|| format!("cannot start `{}`", self.line()))
        }
        #[cfg(not(unix))]
        {
            let status = self.command.status()?;
            std::process::exit(status.code().unwrap_or(1));
        }
    }

    fn announce(&self) {
        say("$", &self.line());
    }
}

/// Prints a line of our own, told apart from what the started programs print.
pub(crate) fn say(mark: &str, line: &str) {
    let plain = std::env::var_os("CI").is_some()
        || std::env::var_os("NO_COLOR").is_some()
        || !std::io::stderr().is_terminal();
    if plain {
        eprintln!("{mark} {line}");
    } else {
        eprintln!("\x1b[1m{mark} {line}\x1b[0m");
    }
}

fn quoted(arg: &OsStr) -> String {
    let text = arg.to_string_lossy();
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let cmd = Cmd::new("cargo").arg("doc").arg("it's").env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(cmd.line(), r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s'");
    }

    #[test]
    fn a_failing_command_is_an_error() {
        let root = Path::new(".");
        assert!(Cmd::cargo(root).arg("no-such-command").read().is_err());
        assert!(Cmd::cargo(root).arg("--version").read().is_ok());
    }
}
