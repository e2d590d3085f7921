// What the address of the page says: ?prometheus=URL&dashboard=FILE&from=UNIX&to=UNIX&interval=SECONDS

const query = new URLSearchParams(location.search);

export const prometheus = query.get('prometheus');
export const dashboard = query.get('dashboard');
export const from = Number(query.get('from'));
export const to = Number(query.get('to'));
export const scrapeInterval = Number(query.get('interval'));

export const width = 1600;
// A point every few pixels, as Grafana's maxDataPoints has it, and never more often than there are samples.
export const step = Math.max(scrapeInterval, Math.ceil((to - from) / 240));
