//! Names of functions in other databases and rule engines, and what does the same here.

/// What to write instead of a function that other languages call `name`, given so many arguments.
pub(crate) fn instead_of(name: &str, arguments: usize) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    match (name.as_str(), arguments) {
        ("min", 2..) => return Some("use `least(a, b)`"),
        ("max", 2..) => return Some("use `greatest(a, b)`"),
        ("isnull", 2) => return Some("use `coalesce_var(a, b)`"),
        _ => {}
    }
    FOREIGN
        .iter()
        .find(|(names, _)| names.split(' ').any(|known| known == name))
        .map(|(_, instead)| *instead)
}

/// What to write where a function of weir's is given an argument that its namesakes elsewhere take.
pub(crate) fn other_form(name: &str, arguments: usize) -> Option<&'static str> {
    match (name, arguments) {
        ("round", 2) => Some("`float(x, n)` rounds to n decimals"),
        ("log", 2) => Some("`log(x) / log(base)` is the logarithm to another base"),
        ("length" | "strlen", 0) => Some("`strlen(text)`, `length(array)`"),
        _ => None,
    }
}

/// Names in lower case with a space between, and what to write instead of each of them.
const FOREIGN: &[(&str, &str)] = &[
    // Conditions.
    ("ifnull nvl if_null", "use `coalesce_var(a, b)`"),
    ("zeroifnull", "use `coalesce_var(x, 0)`"),
    ("nvl2", "use `if(is_null_var(x), b, a)`"),
    ("iif iff", "use `if(condition, a, b)`"),
    (
        "isnull isnullorempty",
        "write `x IS NULL`, or use `is_empty(x)`",
    ),
    (
        "isundefined is_undefined",
        "use `is_null(x)`, or write `x IS NULL`",
    ),
    ("isnumeric isnumber", "use `is_num(x)`"),
    ("exists", "write `x IS NOT NULL`"),
    // Conversion.
    (
        "to_number tonumber to_numeric",
        "use `float(x)` or `int(x)`",
    ),
    (
        "to_int toint to_integer tointeger parseint parse_int integer bigint",
        "use `int(x)`",
    ),
    (
        "to_float tofloat to_double todouble parsefloat double decimal numeric",
        "use `float(x)`",
    ),
    (
        "to_string tostring to_text to_str string text varchar",
        "use `str(x)`",
    ),
    ("to_bool tobool to_boolean boolean", "use `bool(x)`"),
    ("convert try_cast safe_cast", "write `CAST(x AS INT)`"),
    (
        "hex to_hex tohex hex_encode",
        "use `bin2hexstr(text)`, or `int2hexstr(number)`",
    ),
    ("unhex from_hex hex_decode", "use `hexstr2bin(text)`"),
    ("to_base64 btoa", "use `base64_encode(text)`"),
    ("from_base64 atob unbase64", "use `base64_decode(text)`"),
    ("urlencode encodeuricomponent", "use `url_encode(text)`"),
    ("urldecode decodeuricomponent", "use `url_decode(text)`"),
    ("sha2", "use `sha256(text)` or `hash('sha512', text)`"),
    // Texts.
    (
        "len char_length character_length strlength text_length",
        "use `strlen(text)`",
    ),
    (
        "octet_length datalength lengthb byte_length",
        "use `numbytes(text)`",
    ),
    (
        "ucase upcase toupper uppercase to_upper",
        "use `upper(text)`",
    ),
    (
        "lcase downcase tolower lowercase to_lower",
        "use `lower(text)`",
    ),
    (
        "mid",
        "use `substr(text, start, length)`, which counts from 0",
    ),
    ("left", "use `substr(text, 0, n)`"),
    ("right", "use `substr(text, strlen(text) - n)`"),
    (
        "instr strpos locate charindex index_of position",
        "use `indexof(text, part)`, which counts from 0",
    ),
    ("strcat concatenate", "use `concat(a, b)`, or `||`"),
    (
        "concat_ws join implode array_to_string",
        "use `join_to_string(separator, array)`",
    ),
    (
        "split_part substring_index split_index",
        "use `nth(n, tokens(text, separator))`",
    ),
    (
        "string_to_array split_to_array",
        "use `split(text, separator)`",
    ),
    (
        "str_replace translate gsub",
        "use `replace(text, find, to)` or `regex_replace(text, pattern, to)`",
    ),
    (
        "regexp_like regexp_match regexp rlike regex",
        "use `regex_match(text, pattern)`",
    ),
    (
        "regexp_extract regexp_extract_all",
        "use `regex_extract(text, pattern)`, the groups as an array",
    ),
    (
        "strcontains includes contains_string str_contains",
        "write `text LIKE '%part%'`",
    ),
    ("format printf format_string", "use `sprintf(format, a)`"),
    ("space", "use `repeat(' ', n)`"),
    ("char", "use `chr(n)`"),
    ("ord unicode", "use `ascii(text)`"),
    // Numbers.
    ("truncate", "use `trunc(x, n)`"),
    ("to_fixed tofixed", "use `float2str(x, n)`"),
    ("square", "use `power(x, 2)`"),
    ("radians", "write `x * pi() / 180`"),
    ("degrees", "write `x * 180 / pi()`"),
    ("shiftleft bit_shift_left lshift", "use `bitsl(x, n)`"),
    ("shiftright bit_shift_right rshift", "use `bitsr(x, n)`"),
    // JSON, objects, arrays.
    (
        "json_extract json_query json_get get_json_object json_extract_string json_extract_path_text jsonb_extract_path_text json_extract_scalar jsonb_path_query",
        "write a path: `payload.a.b`",
    ),
    (
        "json_object json_build_object jsonb_build_object object_construct named_struct struct",
        "write `{'key': value}`",
    ),
    (
        "json_array json_build_array jsonb_build_array make_array",
        "write `[a, b]`",
    ),
    (
        "json_parse parse_json parsejson from_json fromjson to_object",
        "use `json_decode(text)`; a path into a text decodes it by itself",
    ),
    (
        "to_json tojson json_stringify stringify json_format json_serialize to_jsonb",
        "use `json_encode(x)`",
    ),
    (
        "array_length json_array_length json_length array_size list_length size",
        "use `length(array)` or `map_size(object)`",
    ),
    (
        "json_keys object_keys json_object_keys jsonb_object_keys",
        "use `map_keys(object)`",
    ),
    (
        "unnest explode json_each json_array_elements jsonb_array_elements json_table openjson",
        "FOREACH gives one output for each element of an array",
    ),
    (
        "array_push list_append array_push_back",
        "use `array_append(array, x)`",
    ),
    (
        "in_array list_contains json_contains has_element",
        "use `contains(element, array)`",
    ),
    (
        "slice list_slice subarray",
        "use `array_slice(array, start, last)`",
    ),
    (
        "has_key map_contains_key map_contains object_has",
        "use `map_has(key, object)`",
    ),
    (
        "map_concat object_merge json_merge json_merge_patch",
        "use `map_merge(a, b)`",
    ),
    (
        "map_delete object_delete json_remove",
        "use `map_remove(key, object)`",
    ),
    // Time.
    (
        "getdate sysdate current_timestamp localtimestamp current_time systimestamp now_ms unix_ms",
        "use `now()`, or `now_rfc3339()` for text",
    ),
    (
        "current_date curdate today",
        "use `format_date('millisecond', 'local', '%Y-%m-%d')`",
    ),
    (
        "unix_timestamp unixepoch epoch",
        "use `now_timestamp()`, or `rfc3339_to_unix_ts(text)`",
    ),
    (
        "from_unixtime fromunixtime timestamp_millis to_iso8601 from_unix_ts",
        "use `unix_ts_to_rfc3339(t, 'millisecond')`",
    ),
    (
        "to_char date_format strftime formatdatetime format_datetime time_format date",
        "use `format_date('millisecond', 'local', '%Y-%m-%d %H:%M:%S', t)`",
    ),
    (
        "to_date to_timestamp str_to_date strptime parse_datetime parse_timestamp",
        "use `date_to_unix_ts('millisecond', '%Y-%m-%d %H:%M:%S', text)`",
    ),
    (
        "datediff timestampdiff timediff",
        "use `date_diff(unit, start, last)`",
    ),
    (
        "dateadd timestampadd adddate date_sub datesub subdate",
        "use `date_add(unit, n, t)`",
    ),
    ("datetrunc time_bucket tumble", "use `date_trunc(unit, t)`"),
    (
        "datepart date_part extract",
        "use `year(t)`, `month(t)`, `day(t)`, `hour(t)` and so on",
    ),
    // Identifiers and the machine.
    (
        "meta",
        "write the field: `topic`, `qos`, `timestamp` and so on",
    ),
    (
        "uuid newid gen_random_uuid uuid_generate_v4 random_uuid generateuuidv4",
        "use `uuid_v4()`",
    ),
    ("get_env env", "use `getenv(name)`"),
    // What wants more than one message.
    (
        "sum",
        "over messages it needs a window, which is not there yet; of an array `array_sum(a)`",
    ),
    (
        "avg mean",
        "over messages it needs a window, which is not there yet; of an array `array_avg(a)`",
    ),
    (
        "min",
        "over messages it needs a window, which is not there yet; of an array `array_min(a)`",
    ),
    (
        "max",
        "over messages it needs a window, which is not there yet; of an array `array_max(a)`",
    ),
    (
        "count count_distinct",
        "over messages it needs a window, which is not there yet; `kv_store_incr('key')` counts, `length(a)` is of an array",
    ),
    (
        "median stddev stddevs variance var vars percentile percentile_disc percentile_cont first_value last_value collect array_agg json_agg group_concat string_agg listagg merge_agg deduplicate",
        "it needs a window, which is not there yet",
    ),
    (
        "lag latest had_changed changed_col lead row_number acc_sum acc_avg acc_min acc_max acc_count",
        "it needs state between messages: `kv_store_put(key, x)` and `kv_store_get(key)` keep it",
    ),
    (
        "tumblingwindow hoppingwindow slidingwindow sessionwindow countwindow statewindow",
        "windows are not there yet",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Catalog, Code, compile, functions};

    #[test]
    fn no_name_is_there_twice_or_a_function_of_weir() {
        let mut seen = HashSet::new();
        for name in FOREIGN.iter().flat_map(|(names, _)| names.split(' ')) {
            assert!(seen.insert(name), "{name} is there twice");
            assert!(functions::lookup(name).is_none(), "{name} exists");
            assert!(functions::not_provided(name).is_none(), "{name} has a text");
            assert_eq!(name, name.to_ascii_lowercase());
        }
    }

    #[test]
    fn what_is_named_instead_exists_and_takes_such_arguments() {
        let of_table = FOREIGN.iter().map(|(_, instead)| *instead);
        let of_arguments = [("min", 2), ("max", 3), ("isnull", 2)];
        let of_arguments = of_arguments
            .iter()
            .filter_map(|(name, arguments)| instead_of(name, *arguments));
        let of_forms = ["round", "log"]
            .iter()
            .filter_map(|name| other_form(name, 2));
        for instead in of_table.chain(of_arguments).chain(of_forms) {
            for expression in instead.split('`').skip(1).step_by(2) {
                if !expression.contains('(') {
                    continue;
                }
                // Units stand for themselves in the text.
                let expression = expression.replace("(unit", "('hour'");
                let sql = format!("SELECT {expression} AS x FROM \"t\"");
                let findings = match compile(&sql, &Catalog::default()) {
                    Ok((_, findings)) | Err(findings) => findings,
                };
                assert!(
                    findings
                        .iter()
                        .all(|finding| finding.code == Code::UnknownField),
                    "{sql}: {findings:?}"
                );
            }
        }
    }
}
