//! A container's standard streams: to the log, and to and from attached clients.
//!
//! Memory is bounded: the container's output is not read while an attached client's buffer is full, and a
//! client's input not while the container's is.

use super::log::{Log, Unfinished};
use crate::protocol::LogSpec;
use alloc::{vec, vec::Vec};
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use strata_runtime::spec::ConsoleSize;
use strata_runtime::{Context, Error, Result};
use strata_sys::{Errno, terminal};

/// Bytes read at a time.
const CHUNK: usize = 32 << 10;

/// Bytes kept for an attached client before the container has to wait.
const BUFFER_LIMIT: usize = 64 << 10;

/// Most clients attached to one container.
const ATTACHMENT_LIMIT: usize = 32;

/// A descriptor of a container's streams.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// Output of the container: 0 standard output or terminal, 1 standard error.
    Output(usize),
    /// The container's standard input takes more.
    Input,
    /// Input of an attached client.
    ClientInput(u64),
    /// An attached client takes more output.
    ClientOutput(u64, usize),
}

#[derive(Default)]
pub(super) struct Streams {
    outputs: [Option<Output>; 2],
    /// Where input goes: the pipe, or the terminal's master.
    input: Option<OwnedFd>,
    /// Input that the container has not taken yet.
    pending: Vec<u8>,
    terminal: bool,
    stdin_once: bool,
    /// Close the input once `pending` is gone.
    closing: bool,
    log: Option<Log>,
    clients: Vec<Attachment>,
    next_client: u64,
}

struct Output {
    source: OwnedFd,
    unfinished: Unfinished,
}

struct Attachment {
    number: u64,
    input: Option<OwnedFd>,
    outputs: [Option<Sink>; 2],
}

struct Sink {
    target: OwnedFd,
    buffer: Vec<u8>,
}

/// The container's ends of its streams.
pub(super) type Ends = [OwnedFd; 3];

impl Streams {
    /// Streams over pipes: ours and the container's ends.
    pub(super) fn pipes(log: Option<LogSpec>, stdin: bool, stdin_once: bool) -> Result<(Self, Ends)> {
        let what = || "make the container's streams";
        let (out_read, out_write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
        let (error_read, error_write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
        let (input, theirs) = if stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
            rustix::io::ioctl_fionbio(&write, true).context(what)?;
            (Some(write), read)
        } else {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
            (None, null)
        };
        let output = |source: OwnedFd| -> Result<Option<Output>> {
            rustix::io::ioctl_fionbio(&source, true).context(what)?;
            Ok(Some(Output {
                source,
                unfinished: Unfinished::default(),
            }))
        };
        let streams = Streams {
            outputs: [output(out_read)?, output(error_read)?],
            input,
            stdin_once,
            log: log.map(Log::open).transpose()?,
            ..Streams::default()
        };
        Ok((streams, [theirs, out_write, error_write]))
    }

    /// Streams of a terminal that is made later.
    pub(super) fn for_terminal(log: Option<LogSpec>, stdin_once: bool) -> Result<Self> {
        let log = log.map(Log::open).transpose()?;
        Ok(Streams {
            terminal: true,
            stdin_once,
            log,
            ..Streams::default()
        })
    }

    /// The terminal's master, once it is there; `stdin` keeps it open for input.
    pub(super) fn set_terminal(&mut self, master: OwnedFd, stdin: bool) -> Result<()> {
        let what = || "set the terminal up";
        rustix::io::ioctl_fionbio(&master, true).context(what)?;
        if stdin {
            self.input = Some(rustix::io::fcntl_dupfd_cloexec(&master, 0).context(what)?);
        }
        self.outputs[0] = Some(Output {
            source: master,
            unfinished: Unfinished::default(),
        });
        Ok(())
    }

    pub(super) fn resize(&self, size: ConsoleSize) -> Result<()> {
        match &self.outputs[0] {
            Some(output) if self.terminal => {
                terminal::resize(&output.source, size.height, size.width).context(|| "resize the terminal")
            }
            _ => Err(Error::State("the container has no terminal".into())),
        }
    }

    pub(super) fn reopen_log(&mut self) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::reopen)
    }

    /// Tells which descriptors to wait for, and what for.
    pub(super) fn interests<'a>(&'a self, mut add: impl FnMut(Part, BorrowedFd<'a>, PollFlags)) {
        for (index, output) in self.outputs.iter().enumerate() {
            if let Some(output) = output
                && !self.is_held_up(index)
            {
                add(Part::Output(index), output.source.as_fd(), PollFlags::IN);
            }
        }
        if let Some(input) = &self.input
            && !self.pending.is_empty()
        {
            add(Part::Input, input.as_fd(), PollFlags::OUT);
        }
        for client in &self.clients {
            if let Some(input) = &client.input {
                // Even when nothing can be taken its end is seen.
                let flags = if self.pending.is_empty() {
                    PollFlags::IN
                } else {
                    PollFlags::empty()
                };
                add(Part::ClientInput(client.number), input.as_fd(), flags);
            }
            for (index, sink) in client.outputs.iter().enumerate() {
                if let Some(sink) = sink {
                    let flags = if sink.buffer.is_empty() {
                        PollFlags::empty()
                    } else {
                        PollFlags::OUT
                    };
                    add(Part::ClientOutput(client.number, index), sink.target.as_fd(), flags);
                }
            }
        }
    }

    fn is_held_up(&self, index: usize) -> bool {
        let full = |sink: &Option<Sink>| sink.as_ref().is_some_and(|sink| sink.buffer.len() >= BUFFER_LIMIT);
        self.clients.iter().any(|client| full(&client.outputs[index]))
    }

    /// Acts on a descriptor that is ready.
    pub(super) fn ready(&mut self, part: Part, events: PollFlags) {
        match part {
            Part::Output(index) => {
                self.read_output(index);
            }
            Part::Input => self.write_input(),
            Part::ClientInput(number) => self.read_client(number),
            Part::ClientOutput(number, index) => {
                if let Some(sink) = self.sink(number, index) {
                    let gone = events.intersects(PollFlags::ERR | PollFlags::NVAL);
                    if gone || !sink.flush() {
                        self.drop_sink(number, index);
                    }
                }
            }
        }
        self.tidy();
    }

    /// Reads all output there is, when the container has ended.
    pub(super) fn drain(&mut self) {
        for index in 0..2 {
            // What is held up by a client is read when the client has read.
            while !self.is_held_up(index) && self.read_output(index) {}
        }
        self.input = None;
        self.pending = Vec::new();
        self.tidy();
    }

    /// Reads a piece of output; whether there may be more now.
    fn read_output(&mut self, index: usize) -> bool {
        let Some(output) = &mut self.outputs[index] else {
            return false;
        };
        let name = if index == 0 { "stdout" } else { "stderr" };
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(&output.source, &mut buffer) {
            Ok(count) if count > 0 => {
                let text = &buffer[..count];
                if let Some(log) = &mut self.log {
                    log.write(name, &mut output.unfinished, text);
                }
                for client in &mut self.clients {
                    if let Some(sink) = &mut client.outputs[index]
                        && !sink.push(text)
                    {
                        client.outputs[index] = None;
                    }
                }
                true
            }
            Err(Errno::AGAIN) => false,
            Err(Errno::INTR) => true,
            // A terminal nobody has open any more answers EIO.
            _ => {
                if let Some(log) = &mut self.log {
                    log.finish(name, &mut output.unfinished);
                }
                self.outputs[index] = None;
                false
            }
        }
    }

    fn write_input(&mut self) {
        let Some(input) = &self.input else { return };
        match rustix::io::write(input, &self.pending) {
            Ok(count) => {
                self.pending.drain(..count);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.pending.clear();
                self.input = None;
            }
        }
    }

    fn read_client(&mut self, number: u64) {
        let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else {
            return;
        };
        let Some(input) = &client.input else { return };
        let mut buffer = vec![0; CHUNK];
        match rustix::io::read(input, &mut buffer) {
            Ok(count) if count > 0 => {
                if self.input.is_some() {
                    self.pending.extend_from_slice(&buffer[..count]);
                    self.write_input();
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => {
                client.input = None;
                if self.stdin_once {
                    self.closing = true;
                }
            }
        }
    }

    fn sink(&mut self, number: u64, index: usize) -> Option<&mut Sink> {
        self.clients.iter_mut().find(|client| client.number == number)?.outputs[index].as_mut()
    }

    fn drop_sink(&mut self, number: u64, index: usize) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.number == number) {
            client.outputs[index] = None;
        }
    }

    /// Ends what has come to its end.
    fn tidy(&mut self) {
        if self.closing && self.pending.is_empty() {
            self.input = None;
        }
        for client in &mut self.clients {
            for (output, sink) in self.outputs.iter().zip(&mut client.outputs) {
                if output.is_none() && sink.as_ref().is_some_and(|sink| sink.buffer.is_empty()) {
                    *sink = None;
                }
            }
            if self.input.is_none() {
                client.input = None;
            }
        }
        self.clients
            .retain(|client| client.input.is_some() || client.outputs.iter().any(Option::is_some));
    }

    /// A new client's ends of the pipes it asked for.
    pub(super) fn attach(&mut self, stdin: bool, stdout: bool, stderr: bool) -> Result<Vec<OwnedFd>> {
        if self.clients.len() >= ATTACHMENT_LIMIT {
            return Err(Error::State("too many clients are attached to the container".into()));
        }
        let what = || "make a client's streams";
        let mut theirs = Vec::new();
        let mut client = Attachment {
            number: self.next_client,
            input: None,
            outputs: [None, None],
        };
        if stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
            rustix::io::ioctl_fionbio(&read, true).context(what)?;
            // Without an input to feed, the client sees the end at once.
            client.input = self.input.is_some().then_some(read);
            theirs.push(write);
        }
        for (index, wanted) in [stdout, stderr].into_iter().enumerate() {
            if wanted {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC).context(what)?;
                rustix::io::ioctl_fionbio(&write, true).context(what)?;
                client.outputs[index] = self.outputs[index].is_some().then(|| Sink {
                    target: write,
                    buffer: Vec::new(),
                });
                theirs.push(read);
            }
        }
        self.next_client += 1;
        self.clients.push(client);
        self.tidy();
        Ok(theirs)
    }
}

impl Streams {
    /// Attaches a client over its own files: where input comes from, and where output goes. Reading and writing them
    /// does not block.
    pub(super) fn connect(&mut self, input: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2]) {
        let sink = |target: OwnedFd| Sink {
            target,
            buffer: Vec::new(),
        };
        self.clients.push(Attachment {
            number: self.next_client,
            input: input.filter(|_| self.input.is_some()),
            outputs: outputs.map(|target| target.map(sink)),
        });
        self.next_client += 1;
        self.tidy();
    }

    /// Whether all output has come to its end and has been handed over.
    pub(super) fn is_at_end(&self) -> bool {
        self.outputs.iter().all(Option::is_none) && self.clients.is_empty()
    }
}

impl Sink {
    /// Takes output; whether the client is still there.
    fn push(&mut self, text: &[u8]) -> bool {
        self.buffer.extend_from_slice(text);
        self.flush()
    }

    fn flush(&mut self) -> bool {
        while !self.buffer.is_empty() {
            match rustix::io::write(&self.target, &self.buffer) {
                Ok(count) => {
                    self.buffer.drain(..count);
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }
}
