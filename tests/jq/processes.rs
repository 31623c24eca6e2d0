//! The processes that run programs: their limits, what is said of each, and that the next program finds a new one.

use std::time::Duration;

use weir::jq::Processes;
use weir_rules::functions::jq::{Answer, Ask, Runner as _};
use weir_test_support::wait_for;

use crate::WEIR;

/// What no test waits for in vain.
const PATIENCE: Duration = Duration::from_secs(20);

fn processes() -> Processes {
    let processes = Processes::default();
    processes.set_program(WEIR.into());
    processes
}

fn run(processes: &Processes, program: &str, input: &str, limit_ms: u64) -> Answer {
    processes.run(Ask {
        program,
        input: input.as_bytes(),
        limit_ms,
    })
}

/// The error of a program, which must not keep the next one from running.
fn error(processes: &Processes, program: &str, limit_ms: u64) -> String {
    let error = run(processes, program, "1", limit_ms).unwrap_err();
    assert_eq!(run(processes, ". + 1", "1", 10_000).unwrap(), [b"2"]);
    error
}

/// Whether there is such a process, and it has not ended.
fn lives(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}

fn kill(id: u32) {
    let id = rustix::process::Pid::from_raw(id.try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
}

/// How much address space a process may take.
fn address_space(id: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max address space"));
    let soft = line.unwrap().split_whitespace().nth(3).unwrap();
    soft.parse().unwrap()
}

#[test]
fn results_come_back_in_their_order_and_a_process_serves_many_programs() {
    let processes = processes();
    assert_eq!(
        run(&processes, ".", "[1,2.5]", 10_000).unwrap(),
        [b"[1,2.5]"]
    );
    let served = processes.idle();
    assert_eq!(served.len(), 1);
    assert!(run(&processes, "empty", "1", 10_000).unwrap().is_empty());
    let both = run(&processes, ".[]", r#"["a\n",{"é":null}]"#, 10_000).unwrap();
    assert_eq!(both, [&br#""a\n""#[..], "{\"é\":null}".as_bytes()]);
    assert_eq!(processes.idle(), served);
}

#[test]
fn errors_of_a_program_come_back_and_leave_the_process_alone() {
    let processes = processes();
    run(&processes, ".", "1", 10_000).unwrap();
    let served = processes.idle();
    for (program, said) in [
        ("{", "not a jq program"),
        ("nope", "jq does not know `nope`"),
        (".a", "cannot"),
        ("env", "a rule cannot ask for this"),
        ("halt", "a rule cannot ask for this"),
        ("\"x\" | halt_error", "a rule cannot ask for this"),
        (
            "repeat(\"xxxxxxxxxxxxxxxx\")",
            "the results would be over 4 MiB",
        ),
    ] {
        let error = error(&processes, program, 10_000);
        assert!(error.contains(said), "{program}: {error}");
    }
    assert_eq!(processes.idle(), served);
}

#[test]
fn what_recurses_without_end_is_an_error_that_says_so() {
    let processes = processes();
    for program in [
        "def f: 1 + f; f",
        "def f: [f]; f",
        "reduce range(1000000) as $i (1; [.]) | tojson",
        "reduce range(1000000) as $i (1; [.])",
        "[recurse([.])] | length",
    ] {
        let error = error(&processes, program, 60_000);
        let said = [
            "recursed too deeply",
            "more than 256 MiB of memory",
            "ran longer than",
        ];
        assert!(
            said.iter().any(|said| error.contains(said)),
            "{program}: {error}"
        );
    }
    let error = error(&processes, "def f: 1 + f; f", 60_000);
    assert_eq!(error, "the jq program recursed too deeply");
}

#[test]
fn what_takes_all_memory_is_an_error_that_says_so() {
    let processes = processes();
    for program in [
        "[range(1e9)]",
        "[repeat(1)] | length",
        "\"x\" * 1000000000",
        "reduce range(64) as $i (\"xxxxxxxxxxxxxxxx\"; . + .)",
    ] {
        let error = error(&processes, program, 60_000);
        let memory = "the jq program took more than 256 MiB of memory";
        assert_eq!(error, memory, "{program}");
    }
}

#[test]
fn the_limit_of_memory_is_one_of_the_process() {
    let processes = processes();
    run(&processes, ".", "1", 10_000).unwrap();
    for id in processes.idle() {
        // Its stack and the program's own text come on top; nothing that an allocator reserves ahead does.
        assert!(
            address_space(id) < 1024 * 1024 * 1024,
            "{}",
            address_space(id)
        );
    }
}

#[test]
fn what_never_ends_is_ended() {
    let processes = processes();
    for program in [
        "def f: f; f",
        "last(repeat(.))",
        "until(false; .)",
        "range(1e18) | empty",
    ] {
        let error = error(&processes, program, 100);
        assert_eq!(error, "the jq program ran longer than 100 ms", "{program}");
    }
    assert_eq!(processes.idle().len(), 1);
}

#[test]
fn the_largest_inputs_and_results_pass() {
    let processes = processes();
    let ones = format!("[{}1]", "1,".repeat(1_500_000));
    let same = run(&processes, ".", &ones, 60_000).unwrap();
    assert_eq!(same.len(), 1);
    assert!(same[0] == ones.as_bytes());
    assert_eq!(
        run(&processes, ".[]", &ones, 60_000).unwrap().len(),
        1_500_001
    );
    let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
    assert!(run(&processes, ".", &deep, 60_000).unwrap()[0] == deep.as_bytes());
}

#[test]
fn many_at_once_share_a_few_processes() {
    let processes = processes();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let processes = &processes;
            scope.spawn(move || {
                for round in 0..50 {
                    let input = (thread * 1000 + round).to_string();
                    let twice = ((thread * 1000 + round) * 2).to_string();
                    let answer = run(processes, ". * 2", &input, 10_000).unwrap();
                    assert_eq!(answer, [twice.as_bytes()]);
                }
            });
        }
    });
    let left = processes.idle().len();
    assert!((1..=4).contains(&left), "{left}");
}

#[test]
fn many_that_harm_at_once_each_get_their_error_and_every_place_is_given_back() {
    let processes = processes();
    std::thread::scope(|scope| {
        for thread in 0..12 {
            let processes = &processes;
            scope.spawn(move || {
                let (program, limit_ms) = match thread % 3 {
                    0 => ("def f: f; f", 200),
                    1 => ("def f: 1 + f; f", 10_000),
                    _ => ("\"x\" * 1000000000", 10_000),
                };
                let error = run(processes, program, "1", limit_ms).unwrap_err();
                let said = match thread % 3 {
                    // Or it had no turn: the others were first.
                    0 => ["ran longer than 200 ms", "no more may run at a time"],
                    1 => ["recursed too deeply"; 2],
                    _ => ["256 MiB of memory"; 2],
                };
                assert!(said.iter().any(|said| error.contains(said)), "{error}");
            });
        }
    });
    assert!(processes.idle().len() <= 4);
    // As many as may run at a time do.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| run(&processes, ".", "1", 10_000).unwrap());
        }
    });
}

#[test]
fn who_finds_no_place_in_time_is_told_so() {
    let processes = processes();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| run(&processes, "def f: f; f", "1", 2_000).unwrap_err());
        }
        while processes.busy() < 4 {
            std::thread::yield_now();
        }
        let error = run(&processes, ".", "1", 50).unwrap_err();
        assert!(error.contains("no more may run at a time"), "{error}");
    });
    run(&processes, ".", "1", 10_000).unwrap();
}

#[tokio::test]
async fn a_process_that_was_killed_is_replaced() {
    let processes = processes();
    run(&processes, ".", "1", 10_000).unwrap();
    let first = processes.idle();
    for id in &first {
        kill(*id);
    }
    let ended = || async { first.iter().all(|id| !lives(*id)).then_some(()) };
    wait_for("the process to end", PATIENCE, ended).await;
    // Nobody notices.
    assert_eq!(run(&processes, ". + 1", "1", 10_000).unwrap(), [b"2"]);
    assert_ne!(processes.idle(), first);
}

#[tokio::test]
async fn a_program_whose_process_is_killed_is_an_error_that_says_so() {
    let processes = processes();
    run(&processes, ".", "1", 10_000).unwrap();
    let id = processes.idle()[0];
    let running = {
        let processes = processes.clone();
        std::thread::spawn(move || run(&processes, "def f: f; f", "1", 10_000).unwrap_err())
    };
    // It computes: its processor time grows.
    let computes = || async {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let ticks: u64 = stat.split(' ').nth(13).unwrap().parse().unwrap();
        (ticks > 20).then_some(())
    };
    wait_for("the program to run", PATIENCE, computes).await;
    kill(id);
    let error = running.join().unwrap();
    assert_eq!(error, "the process of the jq program was killed (signal 9)");
    run(&processes, ".", "1", 10_000).unwrap();
}

#[tokio::test]
async fn the_processes_end_with_their_owner() {
    let processes = processes();
    run(&processes, ".", "1", 10_000).unwrap();
    let idle = processes.idle();
    drop(processes);
    let ended = || async { idle.iter().all(|id| !lives(*id)).then_some(()) };
    wait_for("the process to end", PATIENCE, ended).await;
}

#[test]
fn a_program_that_is_no_weir_is_an_error_that_says_so() {
    for (program, said) in [
        (
            "/bin/true",
            "is no weir of this version with the feature `jq`",
        ),
        ("/nowhere/weir", "cannot be started"),
    ] {
        let processes = Processes::default();
        processes.set_program(program.into());
        let error = run(&processes, ".", "1", 10_000).unwrap_err();
        assert!(error.contains(said), "{error}");
        assert!(error.contains(program), "{error}");
    }
    let nobody = Processes::default();
    let error = run(&nobody, ".", "1", 10_000).unwrap_err();
    assert!(error.contains("BrokerBuilder::jq_program"), "{error}");
}
