//! Every preset: how a bridge of it signs in, which topics are its own, and what may be promised of them.

use weir_test_support::CLOUD_DEVICES;

/// How the address is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Tcp,
    Tls,
    /// TLS with the certificate `device`.
    Certificate,
}

/// One kind of bridge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Of its connector.
    pub(super) name: &'static str,
    pub(super) preset: &'static str,
    /// What its connector file says besides.
    pub(super) keys: &'static str,
    pub(super) line: Line,
    /// What the topics that it sends to begin with.
    pub(super) up: &'static str,
    /// What the topics that it takes begin with.
    pub(super) down: &'static str,
    /// The highest `QoS`.
    pub(super) cap: u8,
    /// Whether the cloud keeps retained messages.
    pub(super) retains: bool,
    /// Between two CONNECTs, in ms.
    pub(super) spacing_ms: u64,
}

const SIGNING: Kind = Kind {
    name: "",
    preset: "",
    keys: "",
    line: Line::Tcp,
    up: "",
    down: "",
    cap: 1,
    retains: false,
    spacing_ms: 5000,
};

/// Any broker, without TLS.
pub(super) const PLAIN: Kind = Kind {
    name: "plain",
    preset: "plain",
    keys: "client_id = \"edge-plain\"\nusername = \"t1/edge\"\npassword = \"device-secret\"\n",
    up: "plain/up/",
    down: "plain/down/",
    cap: 2,
    retains: true,
    spacing_ms: 100,
    ..SIGNING
};

const PLAIN_TLS: Kind = Kind {
    name: "plain_tls",
    keys: "client_id = \"edge-tls\"\nusername = \"t1/edge\"\npassword = \"device-secret\"\n",
    line: Line::Tls,
    up: "tls/up/",
    down: "tls/down/",
    ..PLAIN
};

const PLAIN_CERTIFICATE: Kind = Kind {
    name: "plain_mtls",
    keys: "client_id = \"edge-mtls\"\nprotocol = \"5\"\n",
    line: Line::Certificate,
    up: "mtls/up/",
    down: "mtls/down/",
    ..PLAIN
};

/// Against mosquitto.
pub(super) const PLAINS: [Kind; 2] = [PLAIN_TLS, PLAIN_CERTIFICATE];

/// Against a second weir.
pub(super) const KINDS: [Kind; 13] = [
    Kind {
        name: "aliyun_iot",
        preset: "aliyun_iot",
        keys: "product_key = \"a1Example\"\ndevice_name = \"gw-01\"\ndevice_secret = \"device-secret\"\n",
        up: "/a1Example/gw-01/user/up/",
        down: "/a1Example/gw-01/user/down/",
        spacing_ms: 12_000,
        ..SIGNING
    },
    Kind {
        name: "aliyun_mq",
        preset: "aliyun_mq",
        keys: "group_id = \"GID_weir\"\ndevice_id = \"edge\"\naccess_key = \"LTAI\"\n\
               access_secret = \"device-secret\"\ninstance_id = \"post-cn-1\"\n",
        up: "mq/up/",
        down: "mq/down/",
        ..SIGNING
    },
    Kind {
        name: "tencent_iot",
        preset: "tencent_iot",
        keys: "product_id = \"WEIRPROD01\"\ndevice_name = \"edge\"\ndevice_secret = \"ZGV2aWNlLXNlY3JldA==\"\n",
        up: "WEIRPROD01/edge/up/",
        down: "WEIRPROD01/edge/down/",
        ..SIGNING
    },
    Kind {
        name: "huawei_iotda",
        preset: "huawei_iotda",
        keys: "device_id = \"5f_edge\"\ndevice_secret = \"device-secret\"\n",
        up: "$oc/devices/5f_edge/up/",
        down: "$oc/devices/5f_edge/down/",
        spacing_ms: 2000,
        ..SIGNING
    },
    Kind {
        name: "onenet",
        preset: "onenet",
        keys: "product_id = \"pid\"\ndevice_name = \"edge\"\naccess_key = \"ZGV2aWNlLXNlY3JldA==\"\n",
        up: "$sys/pid/edge/up/",
        down: "$sys/pid/edge/down/",
        ..SIGNING
    },
    Kind {
        name: "baidu_iotcore",
        preset: "baidu_iotcore",
        keys: "core_id = \"core\"\ndevice_key = \"edge\"\ndevice_secret = \"device-secret\"\n",
        up: "$iot/edge/up/",
        down: "$iot/edge/down/",
        ..SIGNING
    },
    AZURE,
    Kind {
        name: "aws_iot",
        preset: "aws_iot",
        keys: "client_id = \"edge-aws\"\n",
        line: Line::Certificate,
        up: "aws/up/",
        down: "aws/down/",
        retains: true,
        spacing_ms: 1000,
        ..SIGNING
    },
    Kind {
        name: "thingsboard",
        preset: "thingsboard",
        keys: "client_id = \"edge-tb\"\naccess_token = \"A1_TEST_TOKEN\"\n",
        up: "v1/devices/me/up/",
        down: "v1/devices/me/down/",
        spacing_ms: 2000,
        ..SIGNING
    },
    Kind {
        name: "cumulocity",
        preset: "cumulocity",
        keys: "client_id = \"edge-c8y\"\ntenant = \"t1\"\nuser = \"edge\"\npassword = \"device-secret\"\n",
        up: "c8y/up/",
        down: "c8y/down/",
        cap: 2,
        spacing_ms: 2000,
        ..SIGNING
    },
    PLAIN,
    PLAIN_TLS,
    PLAIN_CERTIFICATE,
];

/// Its token ends when the file says. What is counted is known by the names of topics.
pub(super) const AZURE: Kind = Kind {
    name: "azure_iothub",
    preset: "azure_iothub",
    keys: "host = \"hub.example\"\ndevice_id = \"edge\"\nkey = \"ZGV2aWNlLXNlY3JldA==\"\ncarry_topic = false\n",
    line: Line::Tls,
    up: "devices/edge/messages/events/",
    down: "devices/edge/messages/devicebound/",
    spacing_ms: 2000,
    ..SIGNING
};

impl Kind {
    /// Whether a weir with `emulate = true` holds it to its cloud's limits.
    pub(super) fn is_emulated(&self) -> bool {
        CLOUD_DEVICES.contains(&format!("scheme = \"{}\"", self.preset))
    }

    /// The connector file of a bridge out that leaves every limit to the preset.
    pub(super) fn shaped_connector(&self, address: &str, tls: &str) -> String {
        let Self {
            name,
            preset,
            keys,
            up,
            ..
        } = self;
        format!(
            "type = \"mqtt\"\npreset = \"{preset}\"\naddresses = [\"{address}\"]\n{keys}{tls}\
             [[out]]\nfilter = \"#\"\nlocal_prefix = \"{name}/out/\"\nremote_prefix = \"{up}\"\n"
        )
    }

    /// The connector file: everything both ways below a prefix of its own, and no shaping that would take hours.
    pub(super) fn connector(&self, address: &str, tls: &str) -> String {
        let Self {
            name,
            preset,
            keys,
            up,
            down,
            ..
        } = self;
        let spacing = self.spacing_ms;
        let out_retain = if self.retains { "keep" } else { "strip" };
        format!(
            "type = \"mqtt\"\npreset = \"{preset}\"\naddresses = [\"{address}\"]\nrate = 100000\nbyte_rate = \"1GB\"\n\
             ack_timeout = \"3s\"\nconnect_timeout = \"3s\"\nsession_expiry = \"1d\"\n\
             backoff = {{ base = \"{spacing}ms\", cap = \"{spacing}ms\" }}\n{keys}{tls}\
             [[out]]\nfilter = \"q/#\"\nlocal_prefix = \"{name}/out/\"\nremote_prefix = \"{up}\"\n\
             [[out]]\nfilter = \"r/#\"\nlocal_prefix = \"{name}/out/\"\nremote_prefix = \"{up}\"\nretain = \"{out_retain}\"\n\
             [[in]]\nfilter = \"q/#\"\nlocal_prefix = \"{name}/in/\"\nremote_prefix = \"{down}\"\n\
             [[in]]\nfilter = \"r/#\"\nlocal_prefix = \"{name}/in/\"\nremote_prefix = \"{down}\"\nretain = \"set\"\n"
        )
    }
}
