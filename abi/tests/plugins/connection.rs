//! What a plugin may ask of, and do to, a connection and its context.

use rohrpost_abi::{Command, Direction, Level, OUTPUT_BYTES_MAX};

use crate::support::{Stage, scenario};

scenario! {
    fn d_54_data_is_kept_per_plugin_and_connection_and_only_replaced() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let (connection, other) = (stage.open(), stage.open());
        stage.run_in(0, connection, "data set-data:1 data set-data:2");
        stage.run_in(1, connection, "data set-data:3");
        stage.run_in(0, other, "data");
        stage.run_in(0, connection, "data set-data:0 data");
        stage.run_in(1, connection, "data");
        assert_eq!(stage.said(), ["data=0", "data=1", "data=0", "data=0", "data=2", "data=0", "data=3"]);
    }
}

scenario! {
    fn context_data_is_kept_per_plugin_for_every_context() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let (connection, other) = (stage.open(), stage.open());
        stage.run_in(0, connection, "context-data set-context-data:4");
        stage.run_in(1, connection, "context-data");
        stage.run_in(0, other, "context-data with-bare context-data");
        let expected = ["context-data=0", "context-data=0", "context-data=4", "context-data=4"];
        assert_eq!(stage.said(), expected);
    }
}

scenario! {
    fn d_3a_authentication_is_set_at_once_and_on_incoming_connections_only() {
        let mut stage = Stage::new();
        let (incoming, outgoing) = (stage.open(), stage.open_to(Direction::Outgoing));
        for connection in [incoming, outgoing] {
            stage.run(connection, "authenticated set-authenticated:2 authenticated");
        }
        let off = "authenticated=0";
        assert_eq!(stage.said(), [off, "authenticated=1", off, off]);
        assert!(stage.worker.authenticated(incoming) && !stage.worker.authenticated(outgoing));
    }
}

scenario! {
    fn d_34_d_39_the_worker_learns_what_plugins_said_last() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.worker.set_authenticated(connection, true);
        assert_eq!(stage.worker.take_authentication(connection), None);
        stage.run(connection, "set-authenticated:1 set-authenticated:0");
        assert_eq!(stage.worker.take_authentication(connection), Some(false));
        assert_eq!(stage.worker.take_authentication(connection), None);
        assert!(!stage.worker.authenticated(connection));
    }
}

scenario! {
    fn d_3f_what_is_sent_is_one_command_in_order() {
        let mut stage = Stage::new();
        let (connection, other) = (stage.open(), stage.open_to(Direction::Outgoing));
        stage.run(connection, "send:abc send:de");
        stage.run(other, "send:f");
        stage.run(connection, "send:g send: send-null");
        let sent = ["sent=3", "sent=2", "sent=1", "sent=1", "sent=0", "sent=0"];
        let lines = stage.take_lines();
        let (said, complaints): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.0 == Level::Info);
        assert_eq!(said.iter().map(|line| &line.2).collect::<Vec<_>>(), sent);
        assert!(complaints.len() == 1 && complaints[0].2.contains("buffer is NULL"), "{complaints:?}");
        let commands: Vec<_> = stage.commands().into_iter().map(|command| match command {
            Command::Send { connection, bytes } => (connection, bytes),
            other => panic!("{other:?}"),
        }).collect();
        let expected =
            [(connection, b"abcde".to_vec()), (other, b"f".to_vec()), (connection, b"g".to_vec())];
        assert_eq!(commands, expected);
    }
}

scenario! {
    fn d_40_a_full_output_takes_nothing() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let half = OUTPUT_BYTES_MAX / 2;
        stage.run(connection, &format!("send-many:{half} send-many:{half} send:x send-huge"));
        assert_eq!(stage.said(), [format!("sent={half}"), format!("sent={half}"), "sent=0".into(), "sent=0".into()]);
        assert_eq!(stage.commands().len(), 1);
        stage.worker.set_output_space(connection, 2);
        stage.run(connection, "send:abc send:ab send:a");
        assert_eq!(stage.said(), ["sent=0", "sent=2", "sent=0"]);
        stage.worker.set_output_space(connection, usize::MAX);
        stage.run(connection, &format!("send-many:{}", OUTPUT_BYTES_MAX + 1));
        assert_eq!(stage.said(), ["sent=0"]);
    }
}

scenario! {
    fn d_50_after_the_close_nothing_is_sent_and_the_rest_keeps_its_last_value() {
        let mut stage = Stage::new();
        let connection = stage.open();
        stage.run(connection, "secure set-authenticated:1");
        stage.worker.set_secure(connection);
        stage.worker.set_closed(connection);
        stage.run(connection, "send:x send-null secure authenticated fd data");
        let expected = ["secure=0", "sent=0", "sent=0", "secure=1", "authenticated=1", "fd=77", "data=0"];
        assert_eq!(stage.said(), expected);
        assert!(stage.commands().is_empty());
    }
}

scenario! {
    fn what_the_host_has_not_got_is_null_and_said_once() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = stage.worker.open_message(connection, Default::default()).expect("room");
        for _ in 0..2 {
            stage.run(connection, "ev");
            stage.show(connection, message, "json");
        }
        let lines = stage.take_lines();
        let (said, complaints): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.0 == Level::Info);
        assert_eq!(said.iter().map(|line| &*line.2).collect::<Vec<_>>(), ["ev=NULL", "json=NULL", "ev=NULL", "json=NULL"]);
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert_eq!(stage.host.misuses(stage.plugin(0)), 0, "it is not the plugin's fault");
    }
}
