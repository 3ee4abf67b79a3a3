//! Compiles proto/ with protox, so that no protoc is needed.

use std::fmt::Write;

use prost_types::{FileDescriptorSet, MethodDescriptorProto};

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
    std::fs::write(out.join("command_rpcs.rs"), command_rpcs(&descriptors))?;
    let descriptors = protox::compile(all, [root])?;
    tonic_prost_build::configure().codec_path("crate::codec::Codec").compile_fds(descriptors)?;
    Ok(())
}

/// The code that follows from the list of rpcs in command.proto: the fields that all requests share, and the list itself as a
/// macro. An rpc that is added there is thereby asked for wherever the list is used.
fn command_rpcs(descriptors: &FileDescriptorSet) -> String {
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    let rpcs: Vec<&MethodDescriptorProto> =
        services.filter(|service| service.name() == "CommandService").flat_map(|service| &service.method).collect();
    let mut code = String::new();
    let mut list = String::new();
    for rpc in rpcs {
        let method = rpc.name();
        let request = rpc.input_type().rsplit('.').next().unwrap_or_default();
        let function = snake_case(method);
        // Writing to a String does not fail.
        let _ = write!(
            code,
            "impl CommandRequest for v1::{request} {{
                const METHOD: &'static str = {method:?};
                fn request_id(&self) -> &str {{ &self.request_id }}
                fn account_id(&self) -> &str {{ &self.account_id }}
                fn clear_request_id(&mut self) {{ self.request_id.clear(); }}
            }}\n"
        );
        let _ = write!(list, "{function} {request}; ");
    }
    let _ = write!(
        code,
        "/// Calls the macro that it is given with every rpc of the command service: `function RequestType;`.
        #[macro_export]
        macro_rules! command_rpcs {{ ($each:ident) => {{ $each! {{ {list} }} }}; }}\n"
    );
    code
}

/// As tonic names the function of an rpc.
fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}
