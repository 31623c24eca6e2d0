//! Processes of ours: started so that none outlives this one, stopped, let go on and killed by their own ids.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};

/// A running child. It is killed with this value, and by the system when this process dies in whatever way.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    hanging: Option<Hanging>,
}

impl Process {
    /// Starts a program in a folder; what it prints is added to the file `log` there.
    pub(crate) fn start(
        program: &Path,
        args: &[impl AsRef<OsStr>],
        folder: &Path,
        run_as: Option<(u32, u32)>,
    ) -> io::Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))?;
        // Another user's process cannot be asked to end with us by our own program, which it may not be able to read.
        let mut command = match run_as {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={user}"), format!("--regid={group}")])
                    .args(["--clear-groups", "--pdeathsig=KILL"]);
                command
            }
            None => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["guarded", &std::process::id().to_string()]);
                command
            }
        };
        let child = command
            .arg("--")
            .arg(program)
            .args(args)
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .env_remove("WEIR_CONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            child,
            hanging: None,
        })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(status.to_string())
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) async fn kill(mut self) {
        // One that has ended by itself is gone as well.
        let _ = self.child.kill().await;
    }

    /// SIGTERM; returns how it ended.
    pub(crate) async fn stop(mut self) -> io::Result<std::process::ExitStatus> {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, Signal::TERM);
        }
        self.child.wait().await
    }

    /// Makes it and its children stand still, or go on. They end with this value, too.
    pub(crate) fn hang(&mut self, hangs: bool) {
        if !hangs {
            if let Some(hanging) = self.hanging.take() {
                hanging.go_on();
            }
            return;
        }
        // Whoever nobody would kill if this process died now is not stopped.
        self.hanging = self.pid().and_then(|pid| Hanging::stop(family(pid)).ok());
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }
}

/// Processes that stand still.
///
/// Children of a child are not killed by the system with this process, and while they stand still they do not see that
/// their parent is gone. So a process of its own kills them when this value goes, or this process dies.
#[derive(Debug)]
struct Hanging {
    stopped: Vec<Pid>,
    killer: std::process::Child,
}

impl Hanging {
    fn stop(family: Vec<Pid>) -> io::Result<Self> {
        let killer = std::process::Command::new(std::env::current_exe()?)
            .arg("kill-after")
            .args(family.iter().map(|pid| pid.as_raw_nonzero().to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends to all of a group must not end it first.
            .process_group(0)
            .spawn()?;
        for pid in &family {
            let _ = kill_process(*pid, Signal::STOP);
        }
        let stopped = family;
        Ok(Self { stopped, killer })
    }

    fn go_on(mut self) {
        for pid in &self.stopped {
            let _ = kill_process(*pid, Signal::CONT);
        }
        if let Some(pipe) = &mut self.killer.stdin {
            let _ = pipe.write_all(b".");
        }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.killer.stdin.take());
        let _ = self.killer.wait();
    }
}

/// Kills processes when the standard input ends, and does nothing when a byte comes first.
pub(crate) fn kill_after(pids: &[i32]) -> io::Result<()> {
    let pids = pids.iter().filter_map(|pid| Pid::from_raw(*pid));
    // Another process may get the number of one that ends meanwhile.
    let held: Vec<_> = pids
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    if io::stdin().read(&mut [0])? == 0 {
        for process in &held {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
    Ok(())
}

/// A process and its children.
fn family(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        // The name, in brackets, may hold anything; state and parent stand behind it.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok())
            .and_then(Pid::from_raw);
        if parent == Some(root) {
            found.push(pid);
        }
    }
    found
}

/// Becomes another program, which ends with the process `parent`. Returns only why it could not.
pub(crate) fn become_guarded(
    parent: u32,
    program: &OsStr,
    args: &[impl AsRef<OsStr>],
) -> io::Error {
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have died before the system was asked to tell.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    if now != i32::try_from(parent).ok() {
        return io::Error::other("the process that has started this is gone");
    }
    std::process::Command::new(program).args(args).exec()
}

/// Servers often lie outside a normal user's PATH.
const MORE_FOLDERS: [&str; 4] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/opt/homebrew/sbin",
];

/// An installed program: in one of `first`, on PATH, or where servers usually are.
pub(crate) fn find(name: &str, first: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    first
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(MORE_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Ports on loopback that nothing listens on now, all different.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
