/** How times and durations read. */

const WHEN = new Intl.DateTimeFormat(undefined, {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit'
});

export function when(iso: string): string {
  return WHEN.format(new Date(iso));
}

export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) {
    return `${whole < 10 ? seconds.toFixed(1) : whole}\u00a0s`;
  }
  const minutes = Math.floor(whole / 60);
  return minutes < 60
    ? `${minutes}\u00a0min ${whole % 60}\u00a0s`
    : `${Math.floor(minutes / 60)}\u00a0h ${minutes % 60}\u00a0min`;
}
