//! This same program as a child process that is there to be killed: SIGKILL gives it no chance to
//! flush, close or say goodbye, which is the point.

use crate::error::{CliError, Result};
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

/// A running child whose lines of output we read. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writer {
    /// Starts this program with other arguments.
    pub(crate) fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<Self> {
        let failed = |source| CliError::Child { what: "does not start", source };
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let Some(stdout) = child.stdout.take() else {
            return Err(CliError::Check { detail: "the child has no output".to_owned() });
        };
        Ok(Self { child, lines: BufReader::new(stdout) })
    }

    /// The child's next line, with its end; empty when it has ended.
    pub(crate) fn next_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.lines
            .read_line(&mut line)
            .map_err(|source| CliError::Child { what: "cannot be read", source })?;
        Ok(line)
    }

    /// The number on the child's next line; `None` when it has ended.
    pub(crate) fn next_number(&mut self) -> Result<Option<u64>> {
        let line = self.next_line()?;
        // A line that the kill cut short is no acknowledgement.
        Ok(line.strip_suffix('\n').and_then(|line| line.parse().ok()))
    }

    /// Kills the child with SIGKILL and waits for its end. Returns false if it had ended before.
    pub(crate) fn kill(&mut self) -> Result<bool> {
        let failed = |source| CliError::Child { what: "cannot be killed", source };
        self.child.kill().map_err(failed)?;
        let status = self.child.wait().map_err(failed)?;
        Ok(status.code().is_none())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // On an error path the child must not go on writing into a directory that goes away.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
