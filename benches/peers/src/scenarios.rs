//! The same question in every language, and the messages it is asked of.

use bytes::Bytes;

/// One filter and projection.
pub struct Scenario {
    pub name: &'static str,
    #[cfg_attr(
        not(feature = "weir"),
        expect(dead_code, reason = "for the others alone")
    )]
    pub weir: &'static str,
    pub vrl: &'static str,
    pub jaq: &'static str,
    pub cel: &'static str,
    pub rhai: &'static str,
    pub cases: Vec<Case>,
}

/// One message.
pub struct Case {
    pub name: String,
    pub payload: Bytes,
    /// How many objects come out.
    pub outputs: usize,
}

/// All that is measured.
pub fn all() -> [Scenario; 3] {
    [sentence(), reshape(), foreach()]
}

/// The rule of the first sentence of the manual.
fn sentence() -> Scenario {
    Scenario {
        name: "sentence",
        weir: r#"SELECT payload.temp FROM "dev/+/up" WHERE payload.temp > 30"#,
        vrl: r#"if (.temp > 30) ?? false { {"payload": {"temp": .temp}} }"#,
        jaq: "select(.temp > 30) | {payload: {temp}}",
        cel: r#"payload.temp > 30 ? {"payload": {"temp": payload.temp}} : null"#,
        rhai: "if payload.temp > 30 { #{payload: #{temp: payload.temp}} }",
        cases: passing_and_not(&[100, 300, 1024, 4096], r#""temp":31.5"#, r#""temp":21.5"#),
    }
}

/// Three comparisons, of which the last one fails, and three fields: one nested, one computed.
fn reshape() -> Scenario {
    Scenario {
        name: "reshape",
        weir: r#"SELECT payload.device AS device,
                        payload.battery.level AS battery.level,
                        payload.temp * 1.8 + 32 AS fahrenheit
                 FROM "dev/+/up"
                 WHERE payload.temp > 30 AND payload.battery.level < 20 AND payload.state = 'active'"#,
        vrl: r#"if ((.temp > 30) ?? false) && ((.battery.level < 20) ?? false) && .state == "active" {
                    {
                        "device": .device,
                        "battery": {"level": .battery.level},
                        "fahrenheit": (.temp * 1.8 + 32) ?? null
                    }
                }"#,
        jaq: r#"select(.temp > 30 and .battery.level < 20 and .state == "active")
                | {device, battery: {level: .battery.level}, fahrenheit: (.temp * 1.8 + 32)}"#,
        cel: r#"payload.temp > 30 && payload.battery.level < 20 && payload.state == "active"
                ? {
                    "device": payload.device,
                    "battery": {"level": payload.battery.level},
                    "fahrenheit": payload.temp * 1.8 + 32.0
                }
                : null"#,
        rhai: r#"if payload.temp > 30 && payload.battery.level < 20 && payload.state == "active" {
                    #{
                        device: payload.device,
                        battery: #{level: payload.battery.level},
                        fahrenheit: payload.temp * 1.8 + 32
                    }
                }"#,
        cases: passing_and_not(
            &[300, 1024],
            r#""device":"a1-0007","state":"active","battery":{"level":18,"volt":3.61},"temp":31.5"#,
            r#""device":"a1-0007","state":"asleep","battery":{"level":18,"volt":3.61},"temp":31.5"#,
        ),
    }
}

/// A filter and a projection of a hundred elements, of which half pass.
fn foreach() -> Scenario {
    let sensors: Vec<String> = (0..100)
        .map(|at| {
            let value = f64::from(at * 37 % 100) + 0.5;
            format!(r#"{{"id":"s{at:02}","value":{value},"unit":"C","ok":true}}"#)
        })
        .collect();
    let outputs = sensors.len() / 2;
    let payload = format!(
        r#"{{"device":"a1-0007","ts":1767225600123,"sensors":[{}],"seq":4711}}"#,
        sensors.join(",")
    );
    Scenario {
        name: "foreach",
        weir: r#"FOREACH payload.sensors AS s DO s.id AS id, s.value AS value INCASE s.value > 50
                 FROM "dev/+/up""#,
        vrl: r#"passed = filter(array!(.sensors)) -> |_, s| { (s.value > 50) ?? false }
                map_values(passed) -> |s| { {"id": s.id, "value": s.value} }"#,
        jaq: ".sensors[] | select(.value > 50) | {id, value}",
        cel: r#"payload.sensors.map(s, s.value > 50, {"id": s.id, "value": s.value})"#,
        rhai: "let passed = [];
               for s in payload.sensors {
                   if s.value > 50 { passed.push(#{id: s.id, value: s.value}); }
               }
               passed",
        cases: vec![Case {
            name: format!("100 elements, {outputs} pass"),
            payload: payload.into(),
            outputs,
        }],
    }
}

fn passing_and_not(sizes: &[usize], passing: &str, failing: &str) -> Vec<Case> {
    let case = |size: usize, fields: &str, name: &str, outputs| Case {
        name: format!("{size} B, {name}"),
        payload: telemetry(size, fields).into(),
        outputs,
    };
    sizes
        .iter()
        .flat_map(|size| {
            [
                case(*size, passing, "passes", 1),
                case(*size, failing, "does not", 0),
            ]
        })
        .collect()
}

/// An object of `size` bytes as devices send them, with `fields` in its middle.
fn telemetry(size: usize, fields: &str) -> String {
    let mut before = r#"{"id":"a1-0007","ts":1767225600123,"#.to_owned();
    let mut after = String::new();
    let end = |padding: usize| format!(r#","note":"{}"}}"#, "-".repeat(padding));
    for at in 0.. {
        let other = match at % 4 {
            0 => format!(r#""hum{at}":{}.{at}"#, 40 + at),
            1 => format!(r#""ok{at}":true"#),
            2 => format!(r#""mode{at}":"auto""#),
            _ => format!(r#""m{at}":{{"v":{}.25,"n":{at},"unit":"mA"}}"#, 3 * at),
        };
        let room = size.checked_sub(before.len() + fields.len() + after.len() + end(0).len());
        match room {
            Some(room) if room <= other.len() => {
                after.push_str(&end(room));
                break;
            }
            None => unreachable!("{size} bytes are too few"),
            Some(_) if at % 2 == 0 => after.extend([",", &other]),
            Some(_) => before.extend([&other, ","]),
        }
    }
    before + fields + after.as_str()
}
