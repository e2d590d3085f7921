// Take pictures of pages: node shoot.mjs CHROMIUM URL PICTURE [URL PICTURE …]; ends with 1 if a page complained.

import { chromium } from 'playwright-core';

const [executablePath, ...pairs] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const complaints = [];

for (let i = 0; i < pairs.length; i += 2) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 4000 } });
  page.on('pageerror', (error) => complaints.push(`${pairs[i + 1]}: ${error.message}`));
  await page.goto(pairs[i], { waitUntil: 'networkidle', timeout: 120_000 });
  await page.waitForTimeout(2000); // graphs are drawn after their data has come
  const empty = await page.getByText('NO DATA', { exact: true }).count();
  if (empty) complaints.push(`${pairs[i + 1]}: ${empty} panels without data`);
  await page.locator('#dashboard').screenshot({ path: pairs[i + 1], timeout: 120_000 });
  await page.close();
}

await browser.close();
complaints.forEach((complaint) => console.error(complaint));
process.exit(complaints.length ? 1 : 0);
