//! Compiles the wire definition with a protobuf compiler written in Rust: no `protoc` to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "halcyon/v1/client.proto",
            "halcyon/v1/query.proto",
            "halcyon/v1/session.proto",
            "halcyon/v1/room.proto",
            "halcyon/v1/admin.proto",
            "halcyon/v1/peer.proto",
        ],
        ["proto"],
    )?;
    // Ordered maps: two encodings of one message are equal byte for byte.
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
