//! The server on monoio. `monoio CPU`

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use runtimes::{BUFFER_BYTES, Cutter, Mailbox, PUBLISHER, SUBSCRIBER, Subscribers, announce, cpu};

async fn serve(stream: TcpStream, subscribers: Subscribers) {
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut cutter: Option<Cutter> = None;
    loop {
        let (result, filled) = reader.read(buffer).await;
        buffer = filled;
        if !matches!(result, Ok(1..)) {
            return;
        }
        let mut bytes = &buffer[..];
        if cutter.is_none() {
            if bytes[0] == SUBSCRIBER {
                let mailbox = Mailbox::default();
                mailbox.put(&[SUBSCRIBER]);
                subscribers.borrow_mut().push(mailbox.clone());
                return send(&mut writer, mailbox).await;
            }
            assert_eq!(bytes[0], PUBLISHER);
            cutter = Some(Cutter::default());
            bytes = &bytes[1..];
        }
        let subscribers = subscribers.borrow();
        cutter.as_mut().expect("a publisher").cut(bytes, |whole| {
            for subscriber in subscribers.iter() {
                subscriber.put(whole);
            }
        });
    }
}

async fn send(writer: &mut impl AsyncWriteRent, mailbox: Mailbox) {
    let mut spare = Vec::new();
    loop {
        let (result, sent) = writer.write_all(mailbox.take(spare).await).await;
        if result.is_err() {
            return;
        }
        spare = sent;
    }
}

fn main() {
    if let Some(id) = cpu() {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(4_096)
        .build()
        .expect("io_uring");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        announce(listener.local_addr().expect("bound"));
        let subscribers = Subscribers::default();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            monoio::spawn(serve(stream, subscribers.clone()));
        }
    });
}
