//! Compiles proto/ with protox, so that no protoc is needed.

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
    std::fs::write(out.join("rpcs.rs"), rpcs(&descriptors))?;
    let descriptors = protox::compile(all, [root])?;
    tonic_prost_build::configure().codec_path("crate::codec::Codec").compile_fds(descriptors)?;
    Ok(())
}

/// A service, and the macro that lists its rpcs.
const SERVICES: [(&str, &str); 3] =
    [("CommandService", "command_rpcs"), ("QueryService", "query_rpcs"), ("CatalogService", "catalog_rpcs")];

/// The code that follows from the lists of rpcs: the fields that all requests share, and each list itself as a macro. An rpc
/// that is added to a service is thereby asked for wherever its list is used.
fn rpcs(descriptors: &FileDescriptorSet) -> String {
    let mut code = String::new();
    for (service, list) in SERVICES {
        let services = descriptors.file.iter().flat_map(|file| &file.service);
        let rpcs = services.filter(|one| one.name() == service).flat_map(|one| &one.method);
        let mut lines = String::new();
        for rpc in rpcs {
            code += &request(descriptors, service, rpc);
            lines += &format!("{} {}; ", snake_case(rpc.name()), last(rpc.input_type()));
        }
        code += &format!(
            "/// Calls the macro that it is given with what follows its name, and then every rpc of {service}:
            /// `function RequestType;`.
            #[macro_export]
            macro_rules! {list} {{ ($each:ident $(, $with:ident)*) => {{ $each! {{ $($with)* {lines} }} }}; }}\n"
        );
    }
    code
}

/// Generates the code for the request of an rpc.
fn request(descriptors: &FileDescriptorSet, service: &str, rpc: &MethodDescriptorProto) -> String {
    let (method, request, answer) = (rpc.name(), last(rpc.input_type()), last(rpc.output_type()));
    let mut messages = descriptors.file.iter().flat_map(|file| &file.message_type);
    let message = messages.find(|message| message.name() == request);
    // A request without the field has an empty one.
    let text = |name: &str| match message.is_some_and(|message| message.field.iter().any(|field| field.name() == name))
    {
        true => format!("fn {name}(&self) -> &str {{ &self.{name} }}"),
        false => format!("fn {name}(&self) -> &str {{ \"\" }}"),
    };
    let of_service = match service {
        "CommandService" => format!(
            "impl CommandRequest for v1::{request} {{
                {}
                fn clear_request_id(&mut self) {{ self.request_id.clear(); }}
            }}\n",
            text("request_id")
        ),
        "QueryService" => format!("impl QueryRequest for v1::{request} {{ {} }}\n", text("consistency_token")),
        _ => String::new(),
    };
    format!(
        "impl ApiRequest for v1::{request} {{
            const SERVICE: &'static str = {service:?};
            const METHOD: &'static str = {method:?};
            type Answer = v1::{answer};
            {}
        }}\n{of_service}",
        text("account_id")
    )
}

/// A message's name without its package.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
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
