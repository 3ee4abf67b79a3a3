//! Compiles proto/ with protox, so that no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let file = |name| format!("{root}/collections/v1/{name}.proto");
    let served = ["command", "query", "catalog", "events", "payload"].map(file);
    // The bench's echo is nothing that reflection should show.
    let all = served.iter().cloned().chain([file("bench")]);
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptors = protox::compile(&served, [root])?;
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    let descriptors = protox::compile(all, [root])?;
    tonic_prost_build::configure().codec_path("crate::codec::Codec").compile_fds(descriptors)?;
    Ok(())
}
