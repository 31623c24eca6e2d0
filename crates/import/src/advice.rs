//! What EMQX can send to and weir cannot, and what to do instead.

/// What to do instead of an action of that type.
pub(crate) fn instead(kind: &str) -> String {
    let kind = kind
        .trim_end_matches("_producer")
        .trim_end_matches("_consumer");
    let advice = match kind {
        "mysql" | "sqlserver" | "oracle" | "cassandra" | "mongodb" | "dynamo" | "couchbase"
        | "tablestore" | "snowflake" => {
            "keep the rows in PostgreSQL or SQLite, or send them to a web service that writes them there"
        }
        "redis" => {
            "keep the latest row of each device in PostgreSQL or SQLite (`on_conflict`), or send it to a web service"
        }
        "kafka" | "confluent" | "azure_event_hub" | "pulsar" | "rocketmq" | "kinesis"
        | "gcp_pubsub" | "hstreamdb" => {
            "send the rows by `http` to its REST interface or a proxy for that, or let a connector of its own subscribe to weir"
        }
        "rabbitmq" => "RabbitMQ speaks MQTT with its plug-in: use a connector of type `mqtt`",
        "influxdb" | "greptimedb" | "opents" | "clickhouse" | "tdengine" | "iotdb"
        | "elasticsearch" | "datalayers" | "doris" => {
            "it takes rows over HTTP: use a sink of type `http` with its URL and a `body`"
        }
        "s3" | "azure_blob_storage" | "s3tables" | "disk_log" => {
            "write the rows with a sink of type `file`, and upload the files"
        }
        _ => "send the rows by `http` to a web service that passes them on",
    };
    format!("weir has no sink for {}: {advice}", title(kind))
}

/// The name that people know it by.
fn title(kind: &str) -> &str {
    match kind {
        "mysql" => "MySQL",
        "sqlserver" => "SQL Server",
        "oracle" => "Oracle",
        "cassandra" => "Cassandra",
        "mongodb" => "MongoDB",
        "dynamo" => "DynamoDB",
        "redis" => "Redis",
        "kafka" => "Kafka",
        "confluent" => "Confluent",
        "azure_event_hub" => "Azure Event Hubs",
        "pulsar" => "Pulsar",
        "rocketmq" => "RocketMQ",
        "kinesis" => "Kinesis",
        "gcp_pubsub" => "Google Pub/Sub",
        "rabbitmq" => "RabbitMQ",
        "influxdb" => "InfluxDB",
        "clickhouse" => "ClickHouse",
        "tdengine" => "TDengine",
        "elasticsearch" => "Elasticsearch",
        "s3" => "S3",
        other => other,
    }
}
