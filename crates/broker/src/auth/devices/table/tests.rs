use super::*;

const CLOUDS: &str = r#"
[[device]]
scheme = "aliyun_iot"
tenant_key = "pk"
device = "gw-01"
secret = "hunter2-secret"
note = "roof"

[[device]]
scheme = "tencent_iot"
tenant_key = "WEIRPROD01"
device = "edge"
secret = "c2VjcmV0"
enabled = false

[[device]]
scheme = "huawei_iotda"
device = "5f_edge"
secret = "s"
"#;

fn told(path: &str, text: &str) -> Vec<(usize, String)> {
    let Err(problems) = Table::parse(&Source::new(path, text)) else {
        panic!("{text} is taken");
    };
    for problem in &problems {
        let shown = format!("{problem} {}", serde_json::to_string(problem).unwrap());
        for secret in ["hunter2", "7040404", "1979"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    problems
        .iter()
        .map(|problem| (problem.line, problem.message.to_string()))
        .collect()
}

#[test]
fn toml_and_csv_say_the_same() {
    let csv = "\u{feff}# of the console\nscheme,tenant_key,device,secret,enabled,note\n\
               aliyun_iot,pk,gw-01,hunter2-secret,,\"roof, \"\"east\"\"\"\n\
               tencent_iot,WEIRPROD01,edge,c2VjcmV0,false,\r\n\nhuawei_iotda,,5f_edge,s,1,\n";
    for (path, text) in [("devices.toml", CLOUDS), ("devices.CSV", csv)] {
        let table = Table::parse(&Source::new(path, text)).unwrap_or_else(|_| panic!("{path}"));
        assert_eq!(table.len(), 3, "{path}");
        let gw = &table.devices[&(Scheme::AliyunIot, "pk".to_owned(), "gw-01".to_owned())];
        assert_eq!(gw.secret.reveal().unwrap().as_str(), "hunter2-secret");
        assert!(gw.enabled && gw.acl.is_some());
        let edge = &table.joined[&(Scheme::TencentIot, "WEIRPROD01edge".to_owned())];
        assert!(!edge.enabled, "{path}");
    }
    assert!(Table::parse(&Source::new("none.toml", "")).is_ok_and(|table| table.is_empty()));
}

#[test]
fn a_mistake_has_its_line_and_its_cure_and_no_secret() {
    let twice = format!("{CLOUDS}{CLOUDS}");
    let told_of_twice = told("d.toml", &twice);
    assert_eq!(told_of_twice.len(), 3);
    assert_eq!(
        told_of_twice[0],
        (24, "the device stands twice in the table".to_owned())
    );
    let one = |line: &str| {
        let text = format!("[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"pk\"\n{line}\n");
        told("d.toml", &text).remove(0)
    };
    let rest = "device = \"d\"\nsecret = \"hunter2\"";
    assert_eq!(one("device = \"d\"").1, "the key `secret` is missing");
    assert_eq!(
        one(&format!("{rest}\nsecrets = 1")).1,
        "unknown key `secrets`"
    );
    for name in ["a/b", "a b", "a\\nlast 1", "a\\u2028b", ""] {
        let line = format!("device = \"{name}\"\nsecret = \"hunter2\"");
        assert_eq!(one(&line).0, 4, "{name}");
    }
    assert_eq!(one("device = \"d\"\nsecret = \"\"").0, 5);
    assert_eq!(one(&format!("{rest}\ntopics = [\"a/#/b\"]")).0, 6);
    let other = |text: &str| told("d.toml", text).remove(0);
    let aliyun =
        other("[[device]]\nscheme = \"alyun_iot\"\ndevice = \"d\"\nsecret = \"hunter2\"\n");
    assert_eq!(
        aliyun,
        (
            2,
            "`alyun_iot` is no scheme; did you mean `aliyun_iot`?".to_owned()
        )
    );
    let tencent = "[[device]]\nscheme = \"tencent_iot\"\ntenant_key = \"P\"\ndevice = \"d\"\nsecret = \"hunter2!\"\n";
    assert_eq!(
        other(tencent),
        (5, "`secret` is not base64 with padding".to_owned())
    );
    let huawei = "[[device]]\nscheme = \"huawei_iotda\"\ntenant_key = \"P\"\ndevice = \"d\"\nsecret = \"hunter2\"\n";
    assert_eq!(other(huawei).0, 3);
    assert_eq!(
        other("[device]\nscheme = \"x\"\n").1,
        "`device` is one table"
    );
    assert_eq!(other("[[divice]]\n").1, "unknown key `divice`");
    other("[[device]]\nsecret = \"hunter2\n");
    let takes = "`secret` takes a text, not a number".to_owned();
    assert_eq!(other("[[device]]\nsecret = 7040404\n"), (2, takes));
    let profile = format!("{rest}\nacl_profile = \"hunter2\"");
    assert_eq!(one(&profile).1, "the value is not one of: cloud, open");
    for line in [
        "secret = 7040404",
        "secret = 7040404.5",
        "secret = 1979-05-27",
        "secret = [\"hunter2\"]",
        "secret = { key = \"hunter2\" }",
        "secrt = \"hunter2\"",
        "key = \"hunter2\"",
        "enabled = \"hunter2\"",
        "enabled = 7040404",
        "topics = \"hunter2\"",
        "scheme = \"hunter2\"",
    ] {
        other(&format!("[[device]]\n{line}\n"));
        other(&format!("{line}\n"));
    }
    other("device = [{ scheme = \"onenet\", device = \"d\", secret = \"hunter2\" }]\n");
}

#[test]
fn a_mistake_in_csv_has_its_line_too() {
    let one = |text: &str| told("d.csv", text).remove(0);
    one("hunter2,aliyun_iot,pk,d\n");
    one("scheme,device,secret\nhunter2,pk,aliyun_iot\n");
    assert_eq!(one("scheme,device\n").1, "the column `secret` is missing");
    assert_eq!(
        one("scheme,device,secrt\n").1,
        "unknown column `secrt`; did you mean `secret`?"
    );
    let header = "scheme,tenant_key,device,secret,enabled\n";
    let line = |line: &str| one(&format!("{header}{line}\n"));
    assert_eq!(
        line("aliyun_iot,pk,d,hunter2"),
        (
            2,
            "the line has 4 fields, the first line names 5".to_owned()
        )
    );
    assert_eq!(
        line("aliyun_iot,pk,d,\"hunter2,").1,
        "a double quote is not closed in its line"
    );
    assert_eq!(
        line("aliyun_iot,pk,d,hunter2,maybe").1,
        "`enabled` is neither true nor false"
    );
    assert_eq!(
        line("aliyun_iot,,d,hunter2,").1,
        "the key `tenant_key` is missing"
    );
}

#[test]
fn a_product_stands_once_and_a_device_that_registers_needs_its_own() {
    let product = |key: &str| {
        format!(
            "[[product]]\nscheme = \"aliyun_iot\"\ntenant_key = \"{key}\"\nsecret = \"hunter2\"\n"
        )
    };
    let device = "[[device]]\nscheme = \"aliyun_iot\"\ntenant_key = \"pk\"\ndevice = \"d\"\nsecret = \"hunter2\"\nregister = true\n";
    let twice = told("d.toml", &format!("{0}{0}{device}", product("pk")));
    let message = "the product stands twice in the table".to_owned();
    assert_eq!(twice, [(7, message)]);
    for products in ["", &product("other")] {
        let (line, message) = told("d.toml", &format!("{device}{products}")).remove(0);
        assert_eq!(line, 6);
        assert!(message.contains("needs the device's product"), "{message}");
    }
    let (line, _) = told(
        "d.csv",
        "scheme,tenant_key,device,secret,register\naliyun_iot,pk,d,hunter2,true\n",
    )
    .remove(0);
    assert_eq!(line, 2);
    let source = Source::new("d.toml", format!("{device}{}", product("pk")));
    assert!(Table::parse(&source).is_ok());
}

#[test]
fn product_and_name_that_run_together_are_not_guessed_apart() {
    let text =
        "scheme,tenant_key,device,secret\ntencent_iot,AB,C,c2VjcmV0\ntencent_iot,A,BC,c2VjcmV0\n";
    assert_eq!(told("d.csv", text)[0].0, 3);
}

#[test]
fn devices_whose_topics_would_be_the_same_do_not_stand_in_one_table() {
    let header = "scheme,tenant_key,device,secret,acl_profile\n";
    let two = |scheme: &str, second: &str| {
        format!("{header}{scheme},one,d,c2VjcmV0,\n{scheme},two,d,c2VjcmV0,{second}\n")
    };
    for scheme in ["azure_iothub", "baidu_iotcore"] {
        let (line, message) = told("d.csv", &two(scheme, "cloud")).remove(0);
        assert_eq!(line, 3);
        assert!(message.contains("another `tenant_key`"), "{message}");
        let open = Source::new("d.csv", two(scheme, "open"));
        assert!(Table::parse(&open).is_ok(), "{scheme}");
    }
    for scheme in ["aliyun_iot", "aliyun_mq", "tencent_iot", "onenet"] {
        let source = Source::new("d.csv", two(scheme, "cloud"));
        assert!(Table::parse(&source).is_ok(), "{scheme}");
    }
}
