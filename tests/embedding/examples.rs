//! The examples of `crates/broker/examples` run to their ends.

#[path = "../../crates/broker/examples/embed_auth.rs"]
mod embed_auth;
#[path = "../../crates/broker/examples/embed_listener.rs"]
mod embed_listener;
#[path = "../../crates/broker/examples/embed_minimal.rs"]
mod embed_minimal;
#[path = "../../crates/broker/examples/embed_router.rs"]
mod embed_router;
#[path = "../../crates/broker/examples/embed_store.rs"]
mod embed_store;

#[test]
fn the_example_of_a_broker_in_five_lines_ends_well() {
    embed_minimal::main().unwrap();
}

#[test]
fn the_example_of_own_access_ends_well() {
    embed_auth::main().unwrap();
}

#[test]
fn the_example_of_listeners_ends_well() {
    embed_listener::main().unwrap();
}

#[test]
fn the_example_of_an_own_storage_ends_well() {
    embed_store::main().unwrap();
}

#[test]
fn the_example_of_handlers_by_topic_ends_well() {
    embed_router::main().unwrap();
}
