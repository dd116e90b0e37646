//! Renders the model with templates, which are embedded in the program. An unknown name in a template is an error.

use crate::model::{ClientAddress, Cluster, ModelError, Server};
use serde::Serialize;
use tera::{Context, Tera};

/// The name of the relays' backend; the Runtime API needs it to name servers.
pub const BACKEND: &str = "relays";

/// Connections to the statistics and the Runtime API, beside those of clients.
const OPERATORS: u32 = 100;

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The cluster is not valid.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A template and the model do not fit.
    #[error("a template is wrong: {0}")]
    Template(#[from] tera::Error),
}

/// HAProxy's configuration. The same cluster always gives the same text.
pub fn haproxy_cfg(cluster: &Cluster) -> Result<String, RenderError> {
    cluster.validate()?;
    #[derive(Serialize)]
    struct Line {
        #[serde(flatten)]
        server: Server,
        arguments: String,
    }

    let line = |server: Server| Ok::<_, RenderError>(Line { arguments: server_arguments(&server)?, server });
    let servers = cluster.servers().into_iter().map(line).collect::<Result<Vec<_>, _>>()?;
    let front = &cluster.front;
    let mut context = Context::new();
    context.insert("cluster", cluster);
    context.insert("servers", &servers);
    context.insert("process_connections", &front.max_connections.saturating_add(OPERATORS));
    context.insert("tunnel_seconds", &cluster.relay.tunnel_timeout_seconds());
    let limits = [front.max_connections_per_address, front.new_connections_per_address_in_10_seconds];
    context.insert("limits_addresses", &limits.iter().any(|limit| *limit > 0));
    context.insert("sets_forwarded_for", &(cluster.relay.client_address == ClientAddress::XForwardedFor));
    let discovered = match cluster.discovered() {
        Some(server) => {
            let arguments = server_arguments(&server)?;
            Some(Line { server, arguments })
        }
        None => None,
    };

    context.insert("asks_dns", &(discovered.is_some() || servers.iter().any(|line| line.server.named)));
    context.insert("discovery", &discovered);
    render("haproxy.cfg", include_str!("../templates/haproxy.cfg"), &context)
}

/// The arguments after a server's name and address, in a configuration file and in the Runtime API alike.
pub fn server_arguments(server: &Server) -> Result<String, RenderError> {
    let mut context = Context::new();
    context.insert("server", server);
    render("server", include_str!("../templates/server"), &context).map(|text| text.trim_end().to_owned())
}

pub(crate) fn render(name: &str, template: &str, context: &Context) -> Result<String, RenderError> {
    let mut tera = Tera::new();
    tera.add_raw_template(name, template)?;
    Ok(tera.render(name, context)?)
}
