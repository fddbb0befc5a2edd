'use strict'
// Sends files of mail with nodemailer, octet by octet.
//
// Usage: send_files.js HOST:PORT FOLDER [USER PASSWORD]. FOLDER holds NUMBER.crlf and beside it NUMBER.to,
// the recipients, one a line. With a user, by STARTTLS and AUTH, the certificate being that of
// FOLDER/ca.pem. Exits 1 at the first refusal.

const fs = require('node:fs')
const path = require('node:path')
const nodemailer = require('nodemailer')

const [address, folder, user, pass] = process.argv.slice(2)
const [, host, port] = address.match(/^(.*):(\d+)$/)

const transport = nodemailer.createTransport({
    host,
    port: Number(port),
    name: 'client.example',
    secure: false,
    ignoreTLS: !user,
    requireTLS: Boolean(user),
    tls: user ? { ca: fs.readFileSync(path.join(folder, 'ca.pem')), servername: 'localhost' } : undefined,
    auth: user ? { user, pass } : undefined,
    pool: true,
    maxConnections: 2,
    socketTimeout: 60_000,
})

const send = async (file) => {
    const to = fs.readFileSync(path.join(folder, file.replace(/crlf$/, 'to')), 'utf8').trim().split('\n')
    const raw = fs.readFileSync(path.join(folder, file))
    const info = await transport.sendMail({
        envelope: { from: 'a@example.org', to, use8BitMime: raw.some((octet) => octet > 127) },
        raw,
    })
    if (info.rejected.length > 0) throw new Error(`refused: ${info.rejected}`)
}

Promise.all(
    fs
        .readdirSync(folder)
        .filter((name) => name.endsWith('.crlf'))
        .map(send),
).then(
    () => transport.close(),
    (error) => {
        console.error(error)
        process.exit(1)
    },
)
