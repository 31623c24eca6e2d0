//! What one message costs here and in other engines: the same bytes in, the same filter and projection, the same JSON
//! out, on one thread. `cargo bench` measures, and with `-- 'sentence, 300 B'` only the cases whose name has that in it;
//! `cargo test --release --benches` only compares the answers.

mod cel_value;
mod engines;
mod scenarios;
#[cfg(feature = "weir")]
mod weir;

use std::hint::black_box;
use std::time::{Duration, Instant};

use engines::{ENGINES, Run};
use scenarios::{Case, Scenario};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measurements of each engine in each case; the engines take turns, so that what the machine does meanwhile meets all.
const SAMPLES: usize = 51;
/// How long one measurement takes.
const SAMPLE: Duration = Duration::from_millis(2);

fn main() {
    let (options, wanted): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with('-'));
    let measuring = options.iter().any(|option| option == "--bench");
    if measuring {
        println!("ns a message: median (least) of {SAMPLES} samples\n");
        print_row(
            "case",
            ENGINES.iter().map(|engine| engine.name.to_owned()),
            "weir : fastest other",
        );
        print_row("---", ENGINES.iter().map(|_| "--:".to_owned()), "--:");
    }
    for scenario in scenarios::all() {
        for case in &scenario.cases {
            let name = format!("{}, {}", scenario.name, case.name);
            if !wanted.iter().all(|part| name.contains(part.as_str())) {
                continue;
            }
            let mut runs = answering_alike(&scenario, case);
            if measuring {
                print_measured(&name, &mut runs);
            }
        }
    }
    if !measuring {
        println!("all engines give the same answers");
    }
}

/// The engines with their programs, after they have given the same answer.
fn answering_alike(scenario: &Scenario, case: &Case) -> Vec<Run> {
    let mut expected: Option<Vec<serde_json::Value>> = None;
    ENGINES
        .iter()
        .map(|engine| {
            let mut run = (engine.compile)((engine.program)(scenario), case.payload.clone());
            let mut out = Vec::new();
            run(&mut out);
            let place = format!("{} in {}, {}", engine.name, scenario.name, case.name);
            let answer = answer(&out).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(answer.len(), case.outputs, "outputs of {place}");
            let expected = expected.get_or_insert_with(|| answer.clone());
            assert_eq!(&answer, expected, "{place}");
            run
        })
        .collect()
}

/// The output objects, one after the other or in one array.
fn answer(text: &[u8]) -> serde_json::Result<Vec<serde_json::Value>> {
    let mut objects = Vec::new();
    for value in serde_json::Deserializer::from_slice(text).into_iter() {
        match value? {
            serde_json::Value::Array(elements) => objects.extend(elements),
            object => objects.push(object),
        }
    }
    Ok(objects)
}

fn print_measured(case: &str, runs: &mut [Run]) {
    let mut out = Vec::new();
    let rounds: Vec<u32> = runs.iter_mut().map(|run| rounds(run, &mut out)).collect();
    let mut samples = vec![Vec::with_capacity(SAMPLES); runs.len()];
    for _ in 0..SAMPLES {
        for ((run, rounds), samples) in runs.iter_mut().zip(&rounds).zip(&mut samples) {
            let took = time(run, *rounds, &mut out);
            samples.push(took.as_secs_f64() * 1e9 / f64::from(*rounds));
        }
    }
    let measured: Vec<(f64, f64)> = samples
        .iter_mut()
        .map(|samples| {
            samples.sort_by(f64::total_cmp);
            (samples[SAMPLES / 2], samples[0])
        })
        .collect();
    let weir = ENGINES.iter().position(|engine| engine.name == "weir");
    let fastest = (0..measured.len())
        .filter(|place| Some(*place) != weir)
        .map(|place| (measured[place].0, ENGINES[place].name))
        .min_by(|one, other| one.0.total_cmp(&other.0));
    let ratio = match (weir, fastest) {
        (Some(weir), Some((fastest, name))) => {
            format!("{:.2} ({name})", measured[weir].0 / fastest)
        }
        _ => String::new(),
    };
    let cells = measured
        .iter()
        .map(|(median, least)| format!("{median:.0} ({least:.0})"));
    print_row(case, cells, &ratio);
}

/// How many evaluations fill a sample; they also warm up.
fn rounds(run: &mut Run, out: &mut Vec<u8>) -> u32 {
    let mut rounds = 1;
    while time(run, rounds, out) < SAMPLE {
        rounds *= 2;
    }
    rounds
}

fn time(run: &mut Run, rounds: u32, out: &mut Vec<u8>) -> Duration {
    let start = Instant::now();
    for _ in 0..rounds {
        out.clear();
        run(out);
        black_box(&*out);
    }
    start.elapsed()
}

fn print_row(first: &str, cells: impl Iterator<Item = String>, last: &str) {
    let cells: Vec<String> = cells.map(|cell| format!("{cell:>15}")).collect();
    println!("| {first:<36} | {} | {last:>20} |", cells.join(" | "));
}
