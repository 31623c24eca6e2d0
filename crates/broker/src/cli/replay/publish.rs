//! Messages of before, published again: to any broker, at the pace at which they came, faster, or as fast as it takes them.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use weir_mqtt::{ProtocolVersion, Publish};
use weir_rules::event::{Event, What};
use weir_store::capture::{Reading, Recording};

use super::compare::nothing_then;
use super::{Args, To, cannot_read, no_capture, range, shown_time, tell_what_is_missing};
use crate::capture::read::{Found, Range, first_time, open, read};
use crate::cli::client::{failed, resolve};
use crate::cli::{Common, Exit, count, deadline, on_a_runtime, out_json, out_line, say};
use crate::client::{Ahead, Client, ClientError, Options, Tally};
use crate::core::Millis;
use crate::core::message::Message;
use crate::driver::events::message_of;
use crate::pipeline::world::now_ms;
use crate::project::run_test::NOW_MS;

/// So much may be read ahead, in KiB.
const AHEAD_KIB: u32 = 4 << 10;
/// So many messages may be read ahead.
const AHEAD: usize = 1024;
/// So long acknowledgements are waited for once it is to end.
const GRACE: Duration = Duration::from_secs(5);
/// So often it is said how far it is.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// How fast messages follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Speed {
    /// So many times as fast as they came.
    Times(f64),
    /// As fast as the broker takes them.
    Max,
}

impl Speed {
    /// `1`, `0.5`, `60` or `max`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.trim_end_matches('x').parse::<f64>().ok();
        let times = times.filter(|times| times.is_finite() && *times > 0.0);
        times.map(Self::Times).ok_or_else(|| {
            "write how many times as fast as they came, such as 1, 10 or 0.5, or max".to_owned()
        })
    }
}

/// The broker that gets the messages.
#[derive(clap::Args)]
#[command(next_help_heading = "With --to broker")]
pub(super) struct Target {
    /// Its MQTT address; 127.0.0.1:1883 unless given
    #[arg(long, short = 'H', value_name = "HOST:PORT")]
    host: Option<String>,
    /// As which client; the broker chooses an id unless given
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The user name
    #[arg(long, short = 'u')]
    user: Option<String>,
    /// The password; better given by the variable, which no other user can see
    #[arg(long, short = 'P', env = "WEIR_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Speak MQTT 3.1.1 instead of 5: without properties
    #[arg(long)]
    v3: bool,
    /// How many times as fast as they came, such as 1, 10 or 0.5; or max; 1 unless given
    #[arg(long, value_parser = Speed::parse, value_name = "TIMES")]
    speed: Option<Speed>,
    /// Also what rules had republished: the broker's own rules may make it again
    #[arg(long)]
    republished: bool,
}

impl Target {
    /// What was given that has no meaning for rules.
    fn given(&self) -> Option<&'static str> {
        [
            ("--host", self.host.is_some()),
            ("--client-id", self.client_id.is_some()),
            ("--user", self.user.is_some()),
            ("--v3", self.v3),
            ("--speed", self.speed.is_some()),
            ("--republished", self.republished),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }

    fn options(&self) -> Options {
        Options {
            version: if self.v3 {
                ProtocolVersion::V3_1_1
            } else {
                ProtocolVersion::V5
            },
            client_id: self.client_id.clone().unwrap_or_default(),
            username: self.user.clone(),
            password: self.password.clone(),
            ..Options::default()
        }
    }
}

/// Refuses options that do not go together.
pub(super) fn goes_together(args: &Args) -> Result<(), Exit> {
    let (option, why) = match args.to {
        Some(To::Broker) if args.rule.is_some() => ("--rule", "--to broker asks no rule"),
        Some(To::Broker) => return Ok(()),
        _ => match args.target.given() {
            Some(option) => (option, "it needs --to broker"),
            None => return Ok(()),
        },
    };
    say(&format!("weir: {option} has no meaning here: {why}"));
    Err(Exit::Usage)
}

/// A message to be published, and when it came.
struct Recorded {
    /// In the capture; 0 elsewhere.
    number: u64,
    at: Option<Millis>,
    publish: Publish,
    /// Its place among what is read ahead.
    _room: OwnedSemaphorePermit,
}

/// Where a reader puts what it reads; it waits for room there.
struct Giver {
    queue: mpsc::Sender<Recorded>,
    room: Arc<Semaphore>,
}

impl Giver {
    /// From a thread that may wait; `Break` when nobody wants more.
    fn give(&self, number: u64, at: Option<Millis>, message: Message) -> ControlFlow<()> {
        let bytes = message.topic.len() + message.payload.len();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(AHEAD_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib.min(AHEAD_KIB));
        let Ok(room) = Handle::current().block_on(room) else {
            return ControlFlow::Break(());
        };
        let mut publish = Publish::new(message.topic, message.payload);
        publish.qos = message.qos;
        publish.retain = message.retain;
        publish.properties = message.properties;
        let recorded = Recorded {
            number,
            at,
            publish,
            _room: room,
        };
        match self.queue.blocking_send(recorded) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Where messages are read.
enum Source {
    File(String),
    Capture {
        recording: Recording,
        range: Range,
        republished: bool,
    },
}

/// What was read.
#[derive(Default)]
struct Read {
    messages: u64,
    /// Without a time of their own.
    untimed: u64,
    /// Messages that rules had republished, and lines that are no messages.
    left_out: u64,
    reading: Option<Reading>,
}

impl Source {
    fn of(common: &Common, args: &Args) -> Result<Self, Exit> {
        if let Some(file) = &args.file {
            return Ok(Self::File(file.clone()));
        }
        let data_dir = common.load()?.config.data_dir();
        let mut range = range(args)?;
        // What comes from now on may be what is published here.
        range.to = range.to.min(u64::try_from(now_ms()).unwrap_or(Millis::MAX));
        match open(&data_dir) {
            Ok(Some(recording)) => Ok(Self::Capture {
                recording,
                range,
                republished: args.target.republished,
            }),
            Ok(None) => Err(no_capture(&data_dir)),
            Err(error) => Err(cannot_read(&data_dir, &error)),
        }
    }

    /// From a thread that may wait.
    fn read(&self, giver: &Giver) -> Result<Read, (Read, Unread)> {
        let mut found = Read::default();
        match self {
            Self::File(file) => {
                let all = super::file::each(file, &mut |_, event| {
                    let Some((at, message)) = message(event) else {
                        found.left_out += 1;
                        return ControlFlow::Continue(());
                    };
                    found.messages += 1;
                    found.untimed += u64::from(at.is_none());
                    giver.give(0, at, message)
                });
                match all {
                    Ok(()) => Ok(found),
                    Err(exit) => Err((found, Unread::Told(exit))),
                }
            }
            Self::Capture {
                recording,
                range,
                republished,
            } => {
                let read = read(recording, *range, &mut |item| match item {
                    Found::Message(_, message) if message.made_by.is_some() && !republished => {
                        found.left_out += 1;
                        ControlFlow::Continue(())
                    }
                    Found::Message(number, message) => {
                        found.messages += 1;
                        giver.give(number, Some(message.accepted_at), *message)
                    }
                    Found::Filters(_) => ControlFlow::Continue(()),
                });
                match read {
                    Ok(reading) => {
                        found.reading = Some(reading);
                        Ok(found)
                    }
                    Err(error) => Err((found, Unread::Error(error))),
                }
            }
        }
    }
}

/// Why not everything could be read.
enum Unread {
    /// That was said already.
    Told(Exit),
    Error(io::Error),
}

/// A message of a recorded line with its time, if it has one; `None` for events of a broker.
fn message(event: Event) -> Option<(Option<Millis>, Message)> {
    let at = event.timestamp_ms;
    let at = (at != NOW_MS).then(|| u64::try_from(at).unwrap_or(0));
    match event.what {
        What::Publish(publish) => Some((at, message_of(publish, at.unwrap_or(0))?)),
        _ => None,
    }
}

/// When each message is due. Pure: the clock is handed in.
struct Pace {
    speed: Speed,
    /// When the first message with a time came, and when it was due.
    begin: Option<(Millis, Instant)>,
}

impl Pace {
    fn new(speed: Speed) -> Self {
        Self { speed, begin: None }
    }

    /// A message that came at `at`: never before now, and one without a time, or with one before that of the first, at once.
    fn due(&mut self, at: Option<Millis>, now: Instant) -> Instant {
        let (Speed::Times(speed), Some(at)) = (self.speed, at) else {
            return now;
        };
        let (first, begin) = *self.begin.get_or_insert((at, now));
        let since = Duration::from_millis(at.saturating_sub(first)).as_secs_f64() / speed;
        let since = Duration::try_from_secs_f64(since).ok();
        // What is due in centuries is not waited for to the second.
        let due = since.and_then(|since| begin.checked_add(since));
        due.map_or_else(|| now + Duration::from_secs(1 << 32), |due| due.max(now))
    }
}

/// How it ended, and what was done.
struct Done {
    outcome: Result<Option<Exit>, ClientError>,
    tally: Tally,
    in_flight: usize,
    /// When the first of those had come that were published and not acknowledged, or else the last that was published.
    first: Option<Millis>,
    /// The number of the first message of the capture that was not published.
    next: u64,
    seconds: f64,
}

/// Publishes what is recorded.
pub(super) fn run(common: &Common, args: &Args) -> Result<Exit, Exit> {
    let host = args.target.host.as_deref().unwrap_or("127.0.0.1:1883");
    let address = resolve(host).map_err(|error| failed(&error))?;
    let source = Arc::new(Source::of(common, args)?);
    Ok(on_a_runtime(async {
        let client = match Client::connect(address, &args.target.options()).await {
            Ok(client) => client,
            Err(error) => return failed(&error),
        };
        let (queue, take) = mpsc::channel(AHEAD);
        let room = Arc::new(Semaphore::new(AHEAD_KIB as usize));
        let giver = Giver { queue, room };
        let reader = Arc::clone(&source);
        let reading = tokio::task::spawn_blocking(move || reader.read(&giver));
        let speed = args.target.speed.unwrap_or(Speed::Times(1.0));
        let stop = pin!(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => Exit::Interrupted,
                () = deadline(common) => Exit::Timeout,
            }
        });
        let done = publish(common, client, take, speed, stop).await;
        let is_whole = matches!(done.outcome, Ok(None));
        // A reader of stdin may wait for ever.
        let read = if is_whole { reading.await.ok() } else { None };
        tell(common, &source, address, &done, read)
    }))
}

/// Publishes until there is no more, the connection is lost, or `stop` says that it is enough.
async fn publish(
    common: &Common,
    client: Client,
    mut take: mpsc::Receiver<Recorded>,
    speed: Speed,
    mut stop: Pin<&mut impl Future<Output = Exit>>,
) -> Done {
    let begun = Instant::now();
    let (mut link, mut pace) = (Ahead::new(client), Pace::new(speed));
    let (mut last, mut next, mut said) = (None, 0, begun);
    let all = async {
        loop {
            let recorded = tokio::select! {
                biased;
                exit = &mut stop => return Ok(Some(exit)),
                recorded = take.recv() => recorded,
                taken = link.take_in() => {
                    taken?;
                    continue;
                }
            };
            let Some(recorded) = recorded else { break };
            let Recorded {
                number,
                at,
                publish,
                _room,
            } = recorded;
            next = number;
            let due = pace.due(at, Instant::now());
            let its_turn = async {
                link.until(due).await?;
                link.room().await
            };
            tokio::select! {
                exit = &mut stop => return Ok(Some(exit)),
                outcome = its_turn => outcome?,
            }
            {
                let mut sending = pin!(link.send(publish, at));
                tokio::select! {
                    sent = &mut sending => sent?,
                    exit = &mut stop => {
                        // Half a packet is nothing that a broker understands.
                        let _ = timeout(GRACE, sending).await;
                        return Ok(Some(exit));
                    }
                }
            }
            (last, next) = (last.max(at), number + 1);
            if !common.quiet && said.elapsed() >= SAID_EVERY {
                said = Instant::now();
                let at = at.map_or_else(String::new, |at| format!(", up to {}", shown_time(at)));
                say(&format!("{} published{at}", link.tally().published));
            }
        }
        tokio::select! {
            exit = &mut stop => Ok(Some(exit)),
            settled = link.settled() => settled.map(|()| None),
        }
    };
    let mut outcome: Result<Option<Exit>, ClientError> = all.await;
    // Nobody reads on.
    drop(take);
    if let Ok(Some(_)) = outcome
        && let Ok(Err(error)) = timeout(GRACE, link.settled()).await
    {
        outcome = Err(error);
    }
    let (tally, in_flight) = (link.tally().clone(), link.in_flight());
    let first = link.first_in_flight().or(last);
    if outcome.is_ok() {
        // All that it was for has happened.
        let _ = timeout(GRACE, link.disconnect()).await;
    }
    Done {
        outcome,
        tally,
        in_flight,
        first,
        next,
        seconds: begun.elapsed().as_secs_f64(),
    }
}

/// From when on a capture is to be published again, so that nothing is left out: messages are not captured in the order of
/// their times.
fn goes_on(source: &Source, first: Option<Millis>, next: u64) -> Option<Millis> {
    let Source::Capture {
        recording, range, ..
    } = source
    else {
        return None;
    };
    let first = first?;
    let rest = Range {
        number: next,
        ..*range
    };
    let unread = first_time(recording, rest).ok()?;
    Some(unread.map_or(first, |unread| unread.min(first)))
}

/// What became of it.
fn tell(
    common: &Common,
    source: &Source,
    address: SocketAddr,
    done: &Done,
    read: Option<Result<Read, (Read, Unread)>>,
) -> Exit {
    let Done {
        outcome,
        tally,
        in_flight,
        first,
        next,
        seconds,
    } = done;
    let (found, unread) = match read {
        Some(Ok(found)) => (found, None),
        Some(Err((found, unread))) => (found, Some(unread)),
        None => (Read::default(), None),
    };
    if let (
        Source::Capture {
            recording, range, ..
        },
        Some(reading),
    ) = (source, &found.reading)
    {
        tell_what_is_missing(reading);
        if found.messages + found.left_out == 0 {
            return nothing_then(recording, *range, reading);
        }
    }
    if common.json {
        out_json(&json!({
            "v": 1, "published": tally.published, "acknowledged": tally.acknowledged, "refused": tally.refused,
            "unacknowledged": in_flight, "left_out": found.left_out, "seconds": seconds,
        }));
    } else {
        out_line(&format!(
            "published {} in {seconds:.1} s  acknowledged {}  refused {}  unacknowledged {in_flight}",
            tally.published, tally.acknowledged, tally.refused
        ));
    }
    if let Some((topic, reason)) = &tally.first_refusal {
        say(&format!(
            "weir: {address} takes not all of them; the first that it refused is on `{}`: {}",
            topic.as_str(),
            reason.name()
        ));
    }
    tell_what_was_left(source, &found);
    match (outcome, unread) {
        (Err(error), _) => {
            let exit = failed(error);
            if let Some(at) = goes_on(source, *first, *next) {
                say(&format!(
                    "      `--from {}` leaves out none that was not acknowledged, and some come again",
                    shown_time(at)
                ));
            }
            exit
        }
        (Ok(Some(exit)), _) => *exit,
        (Ok(None), Some(Unread::Told(exit))) => exit,
        (Ok(None), Some(Unread::Error(error))) => {
            say(&format!(
                "weir: [E1607] the capture cannot be read: {error}"
            ));
            Exit::Unusable
        }
        (Ok(None), None) if tally.refused > 0 => Exit::Refused,
        (Ok(None), None) => Exit::Ok,
    }
}

fn tell_what_was_left(source: &Source, found: &Read) {
    let number = usize::try_from(found.left_out).unwrap_or(usize::MAX);
    match source {
        Source::Capture { .. } if number > 0 => say(&format!(
            "weir: {} that rules had republished {} left out: rules make them again, or --republished sends them too",
            count(number, "message"),
            if number == 1 { "was" } else { "were" },
        )),
        Source::File(file) if number > 0 => say(&format!(
            "weir: {} of {file} left out: an event is no message that can be published",
            count(number, "line"),
        )),
        _ => {}
    }
    if let Source::File(file) = source
        && found.untimed > 0
    {
        let untimed = usize::try_from(found.untimed).unwrap_or(usize::MAX);
        say(&format!(
            "weir: {} of {file} without `timestamp`: published as soon as its turn came",
            count(untimed, "message"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_read_ahead_than_there_is_room_for() {
        let (queue, mut take) = mpsc::channel(AHEAD);
        let room = Arc::new(Semaphore::new(AHEAD_KIB as usize));
        let giver = Giver {
            queue,
            room: Arc::clone(&room),
        };
        let large = "x".repeat(AHEAD_KIB as usize * 1024 * 3 / 4);
        let reading = tokio::task::spawn_blocking(move || {
            for _ in 0..2 {
                let message = Message::text("t", &large).unwrap();
                assert!(giver.give(0, None, message).is_continue());
            }
        });
        let first = take.recv().await.unwrap();
        assert!(room.available_permits() < AHEAD_KIB as usize / 2);
        assert!(take.try_recv().is_err() && !reading.is_finished());
        drop(first);
        assert!(take.recv().await.is_some());
        reading.await.unwrap();
        assert!(take.recv().await.is_none());
    }

    #[test]
    fn a_speed_is_a_number_above_zero_or_max() {
        assert_eq!(Speed::parse("1"), Ok(Speed::Times(1.0)));
        assert_eq!(Speed::parse("0.5"), Ok(Speed::Times(0.5)));
        assert_eq!(Speed::parse("60x"), Ok(Speed::Times(60.0)));
        assert_eq!(Speed::parse("max"), Ok(Speed::Max));
        for wrong in ["0", "-1", "fast", "", "inf", "NaN"] {
            assert!(Speed::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn messages_are_due_at_the_pace_at_which_they_came_times_the_speed() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut pace = Pace::new(Speed::Times(2.0));
        assert_eq!(pace.due(Some(5_000), now), now);
        assert_eq!(pace.due(Some(6_000), now), now + ms(500));
        // What is late does not shift what comes after it.
        let late = now + ms(700);
        assert_eq!(pace.due(Some(6_200), late), late);
        assert_eq!(pace.due(Some(7_000), late), now + ms(1_000));
        // A clock that was set back, and no clock at all.
        assert_eq!(pace.due(Some(4_000), late), late);
        assert_eq!(pace.due(None, late), late);
        let mut fast = Pace::new(Speed::Max);
        assert_eq!(fast.due(Some(1), now), now);
        assert_eq!(fast.due(Some(Millis::MAX), now), now);
        let mut slow = Pace::new(Speed::Times(f64::MIN_POSITIVE));
        slow.due(Some(0), now);
        assert!(slow.due(Some(Millis::MAX), now) > now + ms(1 << 40));
    }
}
