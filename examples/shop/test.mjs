// Clicks through a conflict in Chromium: test.mjs [SCREENSHOT]. Debian's chromium, or $CHROMIUM.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const shop = spawn(process.execPath, [fileURLToPath(new URL('main.mjs', import.meta.url)), '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
const stopped = new Promise((done) => shop.once('exit', done));
let browser;
try {
  const address = await new Promise((open, failed) => {
    let text = '';
    shop.stdout.on('data', (data) => {
      text += data;
      const found = text.match(/http:\/\/[0-9.:]+/);
      if (found) open(found[0]);
    });
    shop.once('exit', (code) => failed(new Error(`the shop ended with ${code}`)));
  });
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags });
  const page = await browser.newPage({ viewport: { width: 1000, height: 520 } });
  const faults = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  await page.goto(address);
  const shows = (id, text) => page.locator(`#${id}`).filter({ hasText: new RegExp(`^${text}$`) }).waitFor();
  const notes = (side) => page.locator(`#${side} .notes`);
  const write = async (side, note) => {
    await page.fill(`#${side} input`, note);
    await page.click(`#${side} form button`);
  };

  // Before: one cart, the same on both devices.
  await page.click('#phone-add-milk');
  await page.click('#phone-add-tea');
  for (const side of ['phone', 'laptop']) {
    await shows(`${side}-milk`, '1');
    await shows(`${side}-tea`, '1');
  }

  // Apart: each side goes on, and does not see the other.
  await page.click('#cut');
  await shows('state', 'The network is cut');
  await page.click('#phone-remove-tea');
  await page.click('#phone-add-milk');
  await write('phone', 'ring twice');
  await shows('phone-tea', '0');
  await shows('phone-milk', '2');
  await page.click('#laptop-add-bread');
  await page.click('#laptop-add-milk');
  await write('laptop', 'leave it at the door');
  await shows('laptop-bread', '1');
  await shows('laptop-milk', '2');
  await notes('phone').filter({ hasText: 'ring twice' }).waitFor();
  await notes('laptop').filter({ hasText: 'leave it at the door' }).waitFor();
  assert.equal(await page.textContent('#laptop-tea'), '1');
  assert.equal(await page.textContent('#phone-bread'), '0');

  // Together again: nothing that was added is missing, nothing that was taken out is back, both notes are there.
  await page.click('#cut');
  await shows('state', 'Connected');
  for (const side of ['phone', 'laptop']) {
    await shows(`${side}-milk`, '3');
    await shows(`${side}-bread`, '1');
    await shows(`${side}-tea`, '0');
    await shows(`${side}-stock-milk`, '17 in stock');
    await shows(`${side}-stock-tea`, '20 in stock');
    const both = notes(side).filter({ hasText: 'ring twice' }).filter({ hasText: 'leave it at the door' });
    await both.waitFor();
  }
  if (process.argv[2]) await page.screenshot({ path: process.argv[2] });

  // Settled by one click, for everybody.
  await page.locator('#laptop .notes div').filter({ hasText: 'ring twice' }).locator('button').click();
  for (const side of ['phone', 'laptop']) {
    await notes(side).filter({ hasText: 'ring twice' }).filter({ hasNotText: 'leave it' }).waitFor();
  }
  assert.deepEqual(faults, []);
  console.log('shop: the conflict was clicked through');
} finally {
  await browser?.close();
  shop.kill('SIGTERM');
  await stopped;
}
