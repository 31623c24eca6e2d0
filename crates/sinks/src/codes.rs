//! The error codes of sinks and bridges: what each means and what cures it. The texts serve `weir help CODE`.

/// One code.
#[derive(Clone, Copy, Debug)]
pub struct CodeText {
    /// The code, e.g. `E3401`.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What to do about it.
    pub cure: &'static str,
}

/// The text of one code.
pub fn explain(code: &str) -> Option<&'static CodeText> {
    ALL.iter().find(|text| text.code.eq_ignore_ascii_case(code))
}

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $cure:literal;)*) => {
        $(#[doc = $title] pub const $name: &str = $code;)*
        /// Every code of this crate, in order.
        pub const ALL: &[CodeText] = &[$(CodeText { code: $code, title: $title, cure: $cure }),*];
    };
}

codes! {
    KIND = "E3001", "A sink says neither or both of `type` and `connector`",
        "Give `connector = \"NAME\"` for a file in connectors/, or `type` for a sink that needs none.";
    KEY_NOT_FOR_TYPE = "E3002", "A key that this type of sink does not take",
        "Remove the key, or check the sink's type.";
    KEY_MISSING = "E3003", "A key that this type of sink needs is missing", "Add the key that the message names.";
    BAD_VALUE = "E3004", "A value that the key cannot have", "The message says what the key takes.";
    UNKNOWN_CONNECTOR = "E3005", "No connector of that name", "Create connectors/NAME.toml, or correct the name.";
    SHUT_DOWN = "E3006", "The sink was ended before the row was delivered",
        "The row is in the dead letters; retry it once the far side is back.";
    GAVE_UP = "E3007", "The row was retried for as long as `retry.give_up` allows",
        "The row is in the dead letters. Without `give_up` a sink retries for ever.";
    TEMPLATE = "E3008", "A template that is not well formed", "A place is `${field}`, `${a.b[2]}`, `${.}` or `${$}`.";
    DEFECT = "E3009", "A sink has a defect",
        "Please report it with the log; the rows wait and are tried again.";
    DEAD_LETTERS_FULL = "E3010", "The dead letters of a sink are full",
        "Retry, export or drop some (`weir dlq ls`), or raise `dead_letter.max_bytes`; until then the sink waits.";
    MISSING_FIELD = "E3101", "A template names a field that the row lacks",
        "Select the field in the rule, or set `undefined = \"empty\"`.";
    BAD_TOPIC = "E3102", "A rendered topic is no topic name",
        "A topic name is not empty and has no `+`, `#` or U+0000.";
    NOT_TEXT = "E3103", "A value that cannot be written in this format",
        "Binary values need base64_encode() or bin2hexstr() in the rule.";
    BAD_URL = "E3104", "A rendered URL or header is not valid", "Check the template and the row's fields.";
    ROW_REFUSED = "E3201", "The database refused the row", "The message names the value or the constraint.";
    VALUE_NOT_STORABLE = "E3202", "A value that the column cannot hold", "Convert it in the rule.";
    COLUMN_MISSING = "E3203", "The row lacks a column and `missing = \"reject\"` is set", "Select the field in the rule.";
    SCHEMA = "E3204", "Table, column or permission is missing at the database",
        "The sink waits and loses nothing: create what is missing or correct the sink; `create_table = \"if_missing\"` makes the table.";
    POSITION_AHEAD = "E3205", "The database has rows of this sink that the store knows nothing of",
        "Was data_dir put back from a backup? Nothing needs to be done: rows go on, and none is skipped.";
    POSITION_BEHIND = "E3206", "The database lacks rows of this sink that it had confirmed",
        "Was the database put back from a backup? Write the rows again, or accept the gap with the statement of the message.";
    TABLE_MISSING = "E3207", "The table that a sink writes to is not there", "Run the statement that `weir check --online` offers.";
    TABLE_LACKS_COLUMN = "E3208", "A rule fills a column that the table does not have",
        "Add the column, or leave the field out of the rule.";
    COLUMN_TYPE = "E3209", "What a rule makes does not go into the column",
        "Convert it in the rule, or give the column another type.";
    COLUMN_NOT_FILLED = "E3210", "A column that has to be filled is not", "Select the field in the rule, or allow NULL.";
    FENCED = "E3213", "Another weir with a copy of this store writes the rows of this sink",
        "Stop one of the two; start the one that shall go on anew, or run the statement of the message.";
    OWN_TABLE = "E3214", "weir's own table is missing or old, and the login may not mend that",
        "Have the statements of the message run, or set `delivery = \"at_least_once\"` in the sink.";
    TOO_MANY_HOPS = "E3301", "A message was republished too often", "Two rules feed each other; change a topic or raise `max_hops`.";
    UNREACHABLE = "E3401", "The far side cannot be reached", "Check address, network and that the service runs; weir keeps trying.";
    LOGIN = "E3402", "The far side refuses the login", "Check user and password; weir keeps trying.";
    TIMEOUT = "E3403", "The far side did not answer in time", "Check its load, or raise the timeout; weir keeps trying.";
    TRY_LATER = "E3404", "The far side asks to try again later", "Nothing: weir does.";
    DISK_FULL = "E3405", "The disk is full", "Free space; weir keeps trying.";
    TLS = "E3406", "No secure connection", "Check `tls.ca`, the server's name and its certificate.";
    HTTP_LATER = "E3501", "The HTTP server answered with a status that is worth a retry", "Nothing: weir retries.";
    HTTP_REFUSED = "E3502", "The HTTP server refused the request", "Compare the request with what the server takes; `weir try` shows it.";
    FILE = "E3601", "The file cannot be written", "Check permissions and space below data_dir/files.";
    FILE_PATH = "E3602", "A file path that leaves its folder or cannot be",
        "Use a path below data_dir/files, without `..`; of a row's fields, take those that make short names.";
    BRIDGE = "E4101", "A bridge setting that cannot work", "The message says what the key takes.";
    NOT_YET = "E4102", "Not supported by this version", "Remove the key; with SQL, a rule's sink does the same.";
    AUTH = "E4103", "The remote broker refuses the credentials",
        "Check secret and region with `weir bridge test NAME --offline --show-secrets`, and this machine's clock with `date -u`.";
    TOPIC_NOT_OWNED = "E4104", "The topic does not belong to the bridge's device (topic_not_owned)",
        "Use ${conn:product_key} and ${conn:device_name} in the topic.";
    BOUND = "E4105", "A value beyond a bound that the cloud enforces", "Use a value within the bound.";
    PUBLISH_REFUSED = "E4106", "The remote broker refused a message", "The message names the reason code.";
    LINK_DOWN = "E4107", "The link to the remote broker is down", "weir reconnects; the connector's state has the cause.";
    TOO_LARGE = "E4108", "The message is larger than the remote broker takes", "Send less, or raise the remote's limit.";
    CLOCK_UNSET = "E4109", "The system's clock is not set, and the credentials need it", "Set the clock.";
    EVICTED = "E4110", "Something else uses the bridge's identity", "Stop the other client with the same identity.";
    ACK_OVERDUE = "E4111", "The remote broker did not acknowledge in time", "weir reconnects and sends again.";
    PROVIDER = "E4112", "No such credential provider", "The message lists those there are.";
    INPUTS = "E4113", "The signer's inputs are not complete", "The message names the input.";
    LOOP = "E4114", "What the bridge sends out it would take back (loop_possible)",
        "Use `protocol = \"5\"` or `echo_guard = true`, or filters and prefixes that do not overlap at the remote.";
    FILTER_REFUSED = "E4115", "The remote broker refuses a filter of `in`",
        "Let the bridge's user subscribe to it there; weir asks again every five minutes.";
    UNMAPPED = "E4116", "A message of `out` has no name at the remote",
        "Correct `remote_topic` or the prefixes of the entry, then retry the dead letter.";
    CLOSED_OVER = "E4117", "The remote broker closes the link over a message",
        "It is too large for the remote, or on a topic that it forbids: the message is in the dead letters.";
    NOT_REGISTERED = "E4118", "The cloud does not register the device",
        "The message has the cloud's answer. Compare product key, device name and product secret with the console; a device that was activated before has its secret there.";
    LANES = "E4130", "Too many rules send over one bridge at QoS 2",
        "Send with `qos = 1`, or over a second connector with a client id of its own.";
    NOT_RENEWED = "E4131", "Nobody renews the credentials that a bridge signs in with",
        "Let the service that writes the file of `tokens_from`, or those of temporary access keys, write newer ones; weir looks every few seconds.";
    CERTIFICATE = "E4132", "The remote broker refuses the client certificate",
        "Put a certificate that the remote takes, and its key, into the files of `tls.cert` and `tls.key`; they are read at the next attempt.";
    TOKEN = "E4140", "The cloud does not take a token any more",
        "Let your service fetch other tokens and write them to the file of `tokens_from`; weir signs in with them as soon as they are there.";
    START = "E4150", "A bridge's `start` does not go with its other keys",
        "`threshold` and `idle_timeout` are for `start = \"lazy\"`, and a lazy bridge has no `in`.";
    NOT_STARTED = "E4151", "The bridge waits for a command", "`weir bridge start NAME` connects it; what is sent meanwhile waits.";
    NOT_STOPPED = "E4152", "A bridge that connects by itself cannot be told to stop",
        "Give it `start = \"manual\"`, or take its file away.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_and_in_order() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert_eq!(explain("e3401").unwrap().code, UNREACHABLE);
    }
}
