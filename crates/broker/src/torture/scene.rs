//! Everything that takes part, and how each fault is done to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::brokers::Broker;
use super::disk::SmallDisk;
use super::load::Load;
use super::plan::{Event, Fault, Kind, Line, Who};
use super::postgres::Postgres;
use super::process::{find, free_ports};
use super::proxy::{Mode, Proxy};
use super::site::{self, Sinks};
use super::webhook::Webhook;
use super::{RemoteKind, Settings, place};

/// The scene. Its processes end with it.
pub(crate) struct Scene {
    pub(crate) weir: Broker,
    /// weir's folder, with its SQLite file.
    pub(crate) folder: PathBuf,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) webhook: Webhook,
    pub(crate) remote: Option<Broker>,
    /// Between the clients and weir.
    pub(crate) clients: Proxy,
    to_postgres: Option<Proxy>,
    to_webhook: Proxy,
    to_remote: Option<Proxy>,
    disk: Option<SmallDisk>,
    /// What can be broken here, of what was chosen.
    pub(crate) kinds: Vec<Kind>,
    /// What was chosen and is not done here, and why.
    pub(crate) skipped: Vec<String>,
    mosquitto: bool,
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Scene {
    /// Starts everything in a folder.
    pub(crate) async fn set(root: &Path, settings: &Settings) -> Result<Self, String> {
        let problem = |error: std::io::Error| place(root, &error);
        let [weir_port, weir_http, remote_port, remote_http, hook_port] =
            free_ports().map_err(problem)?;
        let mut skipped = Vec::new();
        let mut kinds = settings.kinds.clone();
        kinds.sort();
        kinds.dedup();

        let postgres = match &settings.postgres {
            Some(url) => Some(Postgres::given(url).await?),
            None => Postgres::start(&root.join("postgres")).await?,
        };
        if postgres.is_none() {
            skipped.push("PostgreSQL: it is not installed".to_owned());
        }
        let own_postgres = postgres.as_ref().and_then(Postgres::port);
        if own_postgres.is_none() && kinds.contains(&Kind::Postgres) {
            skipped.push("fault postgres: there is no server of our own".to_owned());
        }
        let to_postgres = match own_postgres {
            Some(port) => Some(Proxy::start(loopback(port)).await.map_err(problem)?),
            None => None,
        };
        let webhook = Webhook::start(hook_port).await.map_err(problem)?;
        let to_webhook = Proxy::start(loopback(hook_port)).await.map_err(problem)?;

        let remote_folder = root.join("remote");
        std::fs::create_dir(&remote_folder).map_err(problem)?;
        let remote = match settings.remote {
            RemoteKind::None => None,
            RemoteKind::Weir => {
                site::write_plain(&remote_folder, remote_port, remote_http).map_err(problem)?;
                Some(
                    Broker::weir("the remote weir", &remote_folder, remote_port)
                        .map_err(problem)?,
                )
            }
            RemoteKind::Mosquitto => {
                let program = find("mosquitto", &[]).ok_or("mosquitto is not installed")?;
                let broker = Broker::mosquitto(program, &remote_folder, remote_port);
                Some(broker.map_err(problem)?)
            }
        };
        let to_remote = match remote {
            Some(_) => Some(Proxy::start(loopback(remote_port)).await.map_err(problem)?),
            None => None,
        };

        let folder = root.join("weir");
        std::fs::create_dir(&folder).map_err(problem)?;
        let mut disk = None;
        if kinds.contains(&Kind::Disk) {
            disk = SmallDisk::mount(&folder.join("data"));
            if disk.is_none() {
                skipped.push("fault disk: mounting a tmpfs is not allowed here".to_owned());
                kinds.retain(|kind| *kind != Kind::Disk);
            }
        }
        let through = to_postgres.as_ref().map(Proxy::port);
        let sinks = Sinks {
            postgres: postgres.as_ref().map(|server| server.url_through(through)),
            webhook_port: to_webhook.port(),
            remote_port: to_remote.as_ref().map(Proxy::port),
        };
        site::write(&folder, weir_port, weir_http, &sinks).map_err(problem)?;
        let made = site::make_database(&folder).await;
        made.map_err(|error| format!("SQLite: {error}"))?;
        let weir = Broker::weir("weir", &folder, weir_port).map_err(problem)?;
        let clients = Proxy::start(loopback(weir_port)).await.map_err(problem)?;
        let mut scene = Self {
            weir,
            folder,
            postgres,
            webhook,
            remote,
            clients,
            to_postgres,
            to_webhook,
            to_remote,
            disk,
            kinds,
            skipped,
            mosquitto: settings.remote == RemoteKind::Mosquitto,
        };
        if scene.mosquitto && scene.kinds.contains(&Kind::Remote) {
            let why = "fault remote: mosquitto keeps nothing safe that it has acknowledged";
            scene.skipped.push(why.to_owned());
            scene.kinds.retain(|kind| *kind != Kind::Remote);
        }
        scene.weir.listens().await?;
        if let Some(remote) = &mut scene.remote {
            remote.listens().await?;
        }
        Ok(scene)
    }

    /// Who is there to be broken.
    pub(crate) fn peers(&self) -> Vec<Who> {
        let mut peers = vec![Who::Weir, Who::Webhook];
        if self.to_postgres.is_some() {
            peers.push(Who::Postgres);
        }
        if self.remote.is_some() {
            peers.push(Who::Remote);
        }
        peers
    }

    /// Starts again what has ended by itself.
    pub(crate) fn look_after(&mut self) {
        self.weir.look_after();
        if let Some(postgres) = &mut self.postgres {
            postgres.look_after();
        }
        if let Some(remote) = &mut self.remote {
            remote.look_after();
        }
    }

    /// One event of the plan. What cannot be started at once is started at the next look.
    pub(crate) async fn apply(&mut self, event: Event) {
        let begins = event.begins;
        match event.fault {
            Fault::Kill(who) => self.kill(who, begins).await,
            Fault::Hang(Who::Weir) => self.weir.hang(begins),
            Fault::Hang(Who::Webhook) => self.webhook.hang(begins),
            Fault::Hang(Who::Postgres) => {
                if let Some(postgres) = &mut self.postgres {
                    postgres.hang(begins);
                }
            }
            Fault::Hang(Who::Remote) => {
                if let Some(remote) = &mut self.remote {
                    remote.hang(begins);
                }
            }
            Fault::Answers(answer) => self.webhook.answer(begins.then_some(answer)),
            Fault::Cut(line) => self.line(line, if begins { Mode::Cut } else { Mode::Open }),
            Fault::Slow(line) => self.line(line, if begins { Mode::Slow } else { Mode::Open }),
            Fault::FullDisk => {
                if let Some(disk) = &self.disk {
                    disk.fill(begins);
                }
            }
        }
    }

    async fn kill(&mut self, who: Who, begins: bool) {
        let broker = match who {
            Who::Weir => Some(&mut self.weir),
            Who::Remote => self.remote.as_mut(),
            Who::Postgres => {
                if let Some(postgres) = &mut self.postgres {
                    if begins {
                        postgres.kill().await;
                    } else {
                        let _ = postgres.launch();
                    }
                }
                None
            }
            Who::Webhook => {
                if begins {
                    self.webhook.kill();
                } else {
                    let _ = self.webhook.revive().await;
                }
                None
            }
        };
        if let Some(broker) = broker {
            if begins {
                broker.kill().await;
            } else {
                let _ = broker.launch();
            }
        }
    }

    fn line(&self, line: Line, mode: Mode) {
        let proxy = match line {
            Line::Clients => Some(&self.clients),
            Line::Postgres => self.to_postgres.as_ref(),
            Line::Webhook => Some(&self.to_webhook),
            Line::Remote => self.to_remote.as_ref(),
        };
        if let Some(proxy) = proxy {
            proxy.set(mode);
        }
    }

    /// How much has come to everybody, to see whether something still comes.
    pub(crate) async fn counts(&self, load: &Load) -> Vec<usize> {
        let mut counts: Vec<usize> = load
            .watchers
            .iter()
            .map(|watcher| watcher.came.lock().len())
            .collect();
        counts.push(self.webhook.rows());
        counts.push(site::rows(&self.folder).await.map_or(0, |rows| rows.len()));
        if let Some(postgres) = &self.postgres {
            counts.push(postgres.rows().await.unwrap_or(0));
        }
        counts
    }
}
