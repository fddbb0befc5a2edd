//! What a plugin may read and change of a message, and what the worker gets back.

use rohrpost_abi::{
    ConnectionId, Direction, Edit, MessageEdits, MessageId, MessageInit, Step, Text,
};

use crate::support::{Stage, scenario};

fn open(stage: &Stage, connection: ConnectionId) -> MessageId {
    let mime = Some(Text::copy_from(b"Subject: x\r\n"));
    let init = MessageInit {
        envelope: Some(b"from@a"),
        recipient: Some(b"to@b"),
        mime,
        ..MessageInit::default()
    };
    stage.worker.open_message(connection, init).expect("there is room")
}

fn set(text: &str) -> Edit {
    Edit::Set(Text::copy_from(text.as_bytes()))
}

scenario! {
    fn what_is_only_read_is_unchanged() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = open(&stage, connection);
        stage.show(connection, message, "envelope recipient mime");
        // A line of the log has no line end.
        assert_eq!(stage.said(), ["envelope=from@a", "recipient=to@b", "mime=Subject: x"]);
        assert_eq!(stage.worker.close_message(message), MessageEdits::default());
        assert_eq!(stage.worker.close_message(message), MessageEdits::default());
    }
}

scenario! {
    fn what_was_never_there_is_null() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = stage.worker.open_message(connection, MessageInit::default()).expect("room");
        stage.show(connection, message, "envelope recipient mime");
        assert_eq!(stage.said(), ["envelope=NULL", "recipient=NULL", "mime=NULL"]);
    }
}

scenario! {
    fn d_69_the_last_value_wins_and_every_plugin_sees_the_one_before() {
        let mut stage = Stage::with_puppets(&["10-a.so", "20-b.so"]);
        let connection = stage.open();
        let message = open(&stage, connection);
        stage.show_to(0, connection, message, "set-envelope:x@y set-recipient:z@w set-mime:one");
        stage.show_to(1, connection, message, "envelope recipient mime set-mime:two mime");
        assert_eq!(stage.said(), ["envelope=x@y", "recipient=z@w", "mime=one", "mime=two"]);
        let edits = stage.worker.close_message(message);
        let expected = MessageEdits { envelope: set("x@y"), recipient: set("z@w"), mime: set("two"), ..Default::default() };
        assert_eq!(edits, expected);
    }
}

scenario! {
    fn d_64_null_or_nothing_removes_from_an_incoming_message() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = open(&stage, connection);
        stage.show(connection, message, "forget-all envelope recipient mime");
        assert_eq!(stage.said(), ["envelope=NULL", "recipient=NULL", "mime=NULL"]);
        let removed = Edit::Removed;
        let expected =
            MessageEdits { envelope: removed.clone(), recipient: removed.clone(), mime: removed.clone(), ..Default::default() };
        assert_eq!(stage.worker.close_message(message), expected);

        let message = open(&stage, connection);
        stage.show(connection, message, "set-envelope: set-recipient: set-mime: envelope recipient mime");
        assert_eq!(stage.said(), ["envelope=", "recipient=NULL", "mime=NULL"], "the null sender is one");
        let expected = MessageEdits { envelope: set(""), recipient: removed.clone(), mime: removed, ..Default::default() };
        assert_eq!(stage.worker.close_message(message), expected);
    }
}

scenario! {
    fn d_64_d_67_d_6e_an_outgoing_message_gets_its_own_values_back() {
        let mut stage = Stage::new();
        let connection = stage.open_to(Direction::Outgoing);
        let init = MessageInit {
            envelope: Some(b"f@a"),
            recipient: Some(b"t@b"),
            ..MessageInit::default()
        };
        let message = stage.worker.open_message(connection, init).expect("room");
        let read = "envelope,recipient,mime";
        let script = format!("on-out-data={read},set-envelope:x,set-recipient:y,set-mime:z,{read},forget-all,{read}");
        stage.run(connection, &script);
        stage.worker.call(stage.plugin(0), connection, Step::OutData(message));
        let own = ["envelope=f@a", "recipient=t@b", "mime=NULL"];
        let edited = ["envelope=x", "recipient=y", "mime=z"];
        assert_eq!(stage.said(), [own, edited, own].concat());
        assert_eq!(stage.worker.close_message(message), MessageEdits::default());
    }
}

scenario! {
    fn d_66_nul_bytes_are_kept_and_the_getter_stops_at_the_first() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = open(&stage, connection);
        stage.show(connection, message, "set-mime-nul mime");
        assert_eq!(stage.said(), ["mime=a"]);
        let Edit::Set(mime) = stage.worker.close_message(message).mime else { panic!("it was set") };
        assert_eq!(mime.as_bytes(), b"a\0b");
    }
}

scenario! {
    fn d_60_a_string_lives_until_the_next_setter_also_while_control_is_held() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = open(&stage, connection);
        stage.show(connection, message, "set-mime:mine keep-mime keep timer:1 true on-timer=kept-mime,continue");
        let commands = stage.commands();
        let [rohrpost_abi::Command::TimerStart { timer, .. }] = commands[..] else {
            panic!("{commands:?}")
        };
        stage.worker.fire_timer(timer);
        assert_eq!(stage.said(), ["timer=yes", "timer 7", "kept-mime=mine"]);
    }
}

scenario! {
    fn a_value_can_be_set_to_a_part_of_itself() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let message = open(&stage, connection);
        stage.show(connection, message, "set-mime:abcdefgh set-mime-itself mime");
        assert_eq!(stage.said(), ["mime=abcd"]);
    }
}

scenario! {
    fn the_body_is_shared_and_not_copied() {
        let mut stage = Stage::new();
        let connection = stage.open();
        let mime = Text::from_vec(b"body".to_vec());
        let messages: Vec<_> = (0..3)
            .map(|_| {
                let init = MessageInit { mime: Some(mime.clone()), ..Default::default() };
                stage.worker.open_message(connection, init).expect("room")
            })
            .collect();
        stage.show(connection, messages[1], "set-mime:other");
        for message in messages {
            stage.show(connection, message, "mime");
            stage.worker.close_message(message);
        }
        assert_eq!(stage.said(), ["mime=body", "mime=other", "mime=body"]);
        let address = mime.as_bytes().as_ptr();
        let body = mime.into_vec();
        assert_eq!(body.as_ptr(), address, "nobody else has it any more");
    }
}
