//! Devices of the clouds that a second weir stands in for.

/// `[auth.devices]`' table of every device that a signing preset signs in as in the tests.
pub const CLOUD_DEVICES: &str = r#"
[[device]]
scheme = "aliyun_iot"
tenant_key = "a1Example"
device = "gw-01"
secret = "device-secret"

[[device]]
scheme = "aliyun_mq"
tenant_key = "post-cn-1"
device = "GID_weir@@@edge"
secret = "device-secret"

[[device]]
scheme = "tencent_iot"
tenant_key = "WEIRPROD01"
device = "edge"
secret = "ZGV2aWNlLXNlY3JldA=="

[[device]]
scheme = "huawei_iotda"
device = "5f_edge"
secret = "device-secret"

[[device]]
scheme = "onenet"
tenant_key = "pid"
device = "edge"
secret = "ZGV2aWNlLXNlY3JldA=="

[[device]]
scheme = "baidu_iotcore"
tenant_key = "core"
device = "edge"
secret = "device-secret"

[[device]]
scheme = "azure_iothub"
tenant_key = "hub.example"
device = "edge"
secret = "ZGV2aWNlLXNlY3JldA=="
"#;
