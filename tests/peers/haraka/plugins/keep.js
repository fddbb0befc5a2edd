'use strict'
// Takes mail for everybody, and keeps each in a maildir below the folder of config/keep.

const fs = require('node:fs')
const path = require('node:path')

let serial = 0

exports.hook_lookup_rdns = (next) => next(OK, 'peer.example')

exports.hook_rcpt = (next) => next(OK)

// The second is asked for clients that have logged in.
exports.hook_queue = exports.hook_queue_outbound = function (next, connection) {
    const { transaction } = connection
    const base = this.config.get('keep').trim()
    const boxes = transaction.rcpt_to.map((to) => to.user.replace(/[^A-Za-z0-9_-]/g, '_') || '_')
    const name = `${process.pid}.${serial++}`
    const first = path.join(base, boxes[0], 'tmp')
    fs.mkdirSync(first, { recursive: true })
    const out = fs.createWriteStream(path.join(first, name))
    out.on('error', (error) => next(DENYSOFT, error.message))
    out.on('close', () => {
        for (const box of boxes) {
            fs.mkdirSync(path.join(base, box, 'new'), { recursive: true })
            fs.copyFileSync(path.join(first, name), path.join(base, box, 'tmp.' + name))
            fs.renameSync(path.join(base, box, 'tmp.' + name), path.join(base, box, 'new', name))
        }
        fs.unlinkSync(path.join(first, name))
        next(OK)
    })
    transaction.message_stream.pipe(out)
}
