//! The context of G2 and later: one per worker and plugin, the same wherever it is shown.

use rohrpost_abi::{ContextStep, MessageInit, Step, Terminated, Text};

use crate::support::{Folder, Stage, scenario};

/// Says for every hook whether it was given the context of `mq_context_initialize`.
const COMPARING: &str = r#"
#include <mailerq.h>
#include <stdio.h>
static MQ_Context *first;
static bool see(MQ_Context *context) {
    char line[100];
    if (context != first) snprintf(line, sizeof line, "%p is not %p", (void *)context, (void *)first);
    else snprintf(line, sizeof line, "same %d", MQ_contextData(context) == &first);
    MQ_log(MQ_INFO, line);
    return false;
}
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
MQ_EXPORT void mq_context_initialize(MQ_Context *c) { first = c, MQ_setContextData(c, &first); }
MQ_EXPORT void mq_context_cleanup(MQ_Context *c) { see(c); }
#define ON(NAME, ...) MQ_EXPORT bool NAME(MQ_Context *c, MQ_Connection *s, ##__VA_ARGS__) { return see(c); }
#define TEXT const char *text, size_t size
ON(mq_smtp_in_connect)
ON(mq_smtp_in_secure)
ON(mq_smtp_in_authenticate, TEXT, const char *password, size_t length)
ON(mq_smtp_in_mailfrom, MQ_Address *address)
ON(mq_smtp_in_rcptto, MQ_Address *address)
ON(mq_smtp_in_data, TEXT)
ON(mq_smtp_in_message, MQ_Message *message)
ON(mq_smtp_in_close)
ON(mq_smtp_out_data, MQ_Message *message)
ON(mq_smtp_out_sent, MQ_Message *message)
ON(mqx_smtp_in_helo, TEXT)
ON(mqx_smtp_in_reset)
ON(mqx_smtp_out_connect)
ON(mqx_smtp_out_secure)
ON(mqx_smtp_out_message, MQ_Message *message)
ON(mqx_smtp_out_result, MQ_Message *message, int code, TEXT)
ON(mqx_smtp_out_close)
MQ_EXPORT void mqx_smtp_lost(MQ_Context *c, MQ_Connection *s) { see(c); }
"#;

scenario! {
    fn d_12_from_g2_on_every_hook_is_given_the_context_of_its_worker() {
        let folder = Folder::new();
        for version in [400, 506] {
            let source = format!("#define MQ_API_VERSION {version}\n{COMPARING}");
            folder.plugin_linked(&format!("{version}.so"), &source, &["-Wno-unused-parameter"]);
        }
        let mut stage = Stage::in_folder(folder);
        for at in 0..2 {
            let (plugin, connection) = (stage.plugin(at), stage.open());
            let init = MessageInit { mime: Some(Text::copy_from(b"x")), ..MessageInit::default() };
            let message = stage.worker.open_message(connection, init).expect("there is room");
            let text = Terminated::from(c"text");
            let steps = [
                Step::Connect,
                Step::Secure,
                Step::Authenticate { login: text, password: text },
                Step::MailFrom(text),
                Step::RcptTo(text),
                Step::Data(text),
                Step::Message(message),
                Step::OutData(message),
                Step::OutSent(message),
                Step::Helo(text),
                Step::Reset,
                Step::OutConnect,
                Step::OutSecure,
                Step::OutMessage(message),
                Step::OutResult { message, code: 250, text },
                Step::OutClose,
                Step::Close,
            ];
            for step in steps {
                stage.worker.call(plugin, connection, step);
                assert_eq!(stage.said(), ["same 1"], "{step:?}");
            }
            stage.worker.call_lost(plugin, connection);
            stage.worker.call_context(plugin, ContextStep::Cleanup);
            assert_eq!(stage.said(), ["same 1"; 2]);
        }
    }
}
