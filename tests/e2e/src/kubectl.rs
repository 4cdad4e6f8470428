//! The real kubectl.

use crate::eventually;
use serde_json::Value;
use std::{
    io::Write,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    context: Option<String>,
}

/// How a run of a program ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// Exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    /// With that file's current context.
    pub fn new(kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            context: None,
        }
    }

    /// With that context.
    pub fn with_context(mut self, context: &str) -> Self {
        self.context = Some(context.to_owned());
        self
    }

    /// The file with the credentials.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// The command, ready to be given more.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env_remove("KUBERNETES_SERVICE_HOST");
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        command.args(words(arguments));
        command
    }

    /// Runs to the end, whatever it is.
    pub fn run(&self, arguments: &str) -> Run {
        self.run_with_input(arguments, "")
    }

    /// Runs to the end with that standard input.
    pub fn run_with_input(&self, arguments: &str, input: &str) -> Run {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl is on the PATH");
        let mut stdin = child.stdin.take().expect("piped");
        let text = input.to_owned();
        // A program that ends before it has read everything is no failure of the test.
        let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
        let output = child.wait_with_output().expect("kubectl can be waited for");
        writer.join().expect("the writer does not panic");
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs and must succeed; standard output.
    pub fn ok(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "kubectl {arguments}\n{}{}", run.stdout, run.stderr);
        run.stdout
    }

    /// Applies a manifest; must succeed.
    pub fn apply(&self, manifest: &str) -> String {
        let run = self.run_with_input("apply -f -", manifest);
        assert_eq!(run.code, 0, "kubectl apply\n{manifest}\n{}{}", run.stdout, run.stderr);
        run.stdout
    }

    /// Runs and must fail; standard error.
    pub fn refused(&self, arguments: &str) -> String {
        let run = self.run(arguments);
        assert_ne!(run.code, 0, "kubectl {arguments} must be refused\n{}", run.stdout);
        run.stderr
    }

    /// The object, as JSON.
    pub fn json(&self, arguments: &str) -> Value {
        let text = self.ok(&format!("{arguments} -o json"));
        serde_json::from_str(&text).expect("kubectl -o json prints JSON")
    }

    /// Runs until the output satisfies; the output.
    pub fn until(&self, arguments: &str, holds: impl Fn(&str) -> bool) -> String {
        eventually(&format!("kubectl {arguments}"), || {
            let run = self.run(arguments);
            if run.code == 0 && holds(&run.stdout) {
                Ok(run.stdout)
            } else {
                Err(format!("{}{}", run.stdout, run.stderr))
            }
        })
    }

    /// Starts it and leaves it running, its output piped.
    pub fn spawn(&self, arguments: &str) -> Child {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("kubectl is on the PATH")
    }
}

/// Splits at blanks, but not within single quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}
