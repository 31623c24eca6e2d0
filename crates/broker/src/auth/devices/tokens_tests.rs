use super::*;

fn row(rights: &str, token: &str, expires_ms: Option<i64>) -> TokenRow {
    TokenRow {
        scheme: "aliyun_mq".to_owned(),
        tenant_key: "i".to_owned(),
        device: "g@@@d".to_owned(),
        rights: rights.to_owned(),
        token: Secret::new(token),
        expires_ms,
        topics: Vec::new(),
        _note: None,
    }
}

fn issued(rows: Vec<TokenRow>) -> Arc<Tokens> {
    let mut tokens = Tokens::default();
    for row in rows {
        assert!(tokens.add(row).is_ok());
    }
    Arc::new(tokens)
}

fn lease(issued: &watch::Sender<Arc<Tokens>>, held: &[(Rights, &str)]) -> TokenLease {
    let held = held.iter();
    let held = held.map(|(rights, token)| {
        let shown = ShownToken::new(*rights, token).unwrap();
        let tokens = issued.borrow();
        let topics = tokens.find("i", "g@@@d", &shown, 0).unwrap().topics();
        Held::new(shown, topics)
    });
    TokenLease {
        issued: issued.subscribe(),
        tenant: "i".to_owned(),
        device: "g@@@d".to_owned(),
        held: Mutex::new(held.collect()),
        renewed: Notify::new(),
    }
}

#[test]
fn the_end_is_told_once_five_minutes_before_and_then_it_is_over() {
    let ends_ms = 1_000_000;
    let rows = vec![row("R", "a", Some(ends_ms)), row("W", "b", None)];
    let issued = watch::Sender::new(issued(rows));
    let lease = lease(&issued, &[(Rights::Read, "a"), (Rights::Write, "b")]);
    let early_ms = ends_ms - EARLY_MS;
    let standing = lease.look(early_ms - 1);
    assert_eq!(
        (standing.next_ms, standing.notices.len()),
        (Some(early_ms), 0)
    );
    let standing = lease.look(early_ms);
    assert_eq!(standing.next_ms, Some(ends_ms));
    let told: Vec<_> = standing
        .notices
        .iter()
        .map(|notice| &*notice.payload)
        .collect();
    assert_eq!(told, [r#"{"expireTime":1000000,"type":"R"}"#]);
    assert_eq!(lease.look(early_ms + 1).notices, []);
    let standing = lease.look(ends_ms);
    assert!(standing.over);
    assert_eq!(standing.notices, [invalid(EXPIRED, "R")]);
}

#[test]
fn another_token_takes_the_place_of_one_of_its_type() {
    let rows = vec![row("RW", "a", Some(100)), row("RW", "b", Some(1_000_000))];
    let issued = watch::Sender::new(issued(rows));
    let lease = lease(&issued, &[(Rights::Both, "a")]);
    assert_eq!(lease.renew(br#"{"token":"b","type":"RW"}"#, 50), Ok(()));
    let standing = lease.look(200);
    assert!(!standing.over && standing.next_ms == Some(1_000_000 - EARLY_MS));
    // Some pages write the key so.
    assert_eq!(lease.renew(br#"{"Token":"b","type":"RW"}"#, 50), Ok(()));
    assert_eq!(
        lease.renew(br#"{"token":"a","type":"RW"}"#, 200),
        Err(invalid(EXPIRED, "RW"))
    );
    issued.send_replace(Arc::default());
    assert_eq!(lease.look(200).notices, [invalid(REVOKED, "RW")]);
}

#[test]
fn a_token_that_cannot_be_is_told_with_its_key() {
    let wrong = |change: &dyn Fn(&mut TokenRow)| {
        let mut row = row("RW", "hunter2", None);
        change(&mut row);
        let wrong = Tokens::default().add(row).unwrap_err();
        assert!(!wrong.message.contains("hunter2"), "{}", wrong.message);
        wrong.key
    };
    assert_eq!(wrong(&|row| row.scheme = "onenet".to_owned()), "scheme");
    assert_eq!(wrong(&|row| row.tenant_key.clear()), "tenant_key");
    assert_eq!(wrong(&|row| row.device = "a b".to_owned()), "device");
    assert_eq!(wrong(&|row| row.rights = "rw".to_owned()), "type");
    assert_eq!(wrong(&|row| row.token = Secret::new("hunter2|x")), "token");
    assert_eq!(wrong(&|row| row.token = Secret::new("")), "token");
    assert_eq!(
        wrong(&|row| row.topics = vec!["a/#/b".to_owned()]),
        "topics"
    );
}

#[test]
fn a_token_for_other_topics_is_not_taken_in_the_place_of_one() {
    let of_topics = |token: &str, topics: &[&str]| TokenRow {
        topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
        ..row("RW", token, None)
    };
    let rows = vec![
        of_topics("a", &["line/7/#", "line/8/#"]),
        of_topics("b", &["line/7/#"]),
        of_topics("c", &["line/8/#", "line/7/#"]),
        row("RW", "d", None),
    ];
    let issued = watch::Sender::new(issued(rows));
    let lease = lease(&issued, &[(Rights::Both, "a")]);
    let renew = |token: &str| {
        lease.renew(
            json!({"token": token, "type": "RW"}).to_string().as_bytes(),
            0,
        )
    };
    assert_eq!(renew("b"), Err(invalid(4, "RW")));
    assert_eq!(renew("d"), Err(invalid(4, "RW")));
    assert_eq!(renew("c"), Ok(()));
}

#[test]
fn the_clock_on_the_wall_is_looked_at_every_minute() {
    let wait_s = |next_ms| wait_for(next_ms, 10_000).as_secs();
    assert_eq!([12_000, 70_000, i64::MAX].map(wait_s), [2, 60, 60]);
    assert_eq!(wait_s(i64::MIN), 0, "it has been");
}
