export const peerNames = [
  'async-cache-dedupe', 'bentocache', 'cache-manager', 'cacheable', 'cachified', 'catbox', 'dataloader', 'layered-loader', 'lru-cache'
]

/** Those that load several keys by one call of their source. The others would ask a database once for each key. */
export const batchingPeers = ['cache-manager', 'cacheable', 'cachified', 'dataloader', 'layered-loader']

/** A module of a peer has a function for each kind of use that it offers: `memory`, `redis`, `shared` (both). */
export async function openPeers (kind, sourceOf, names = peerNames) {
  const peers = new Map()
  for (const name of names) {
    const peer = await import(`./${name}.js`)
    if (peer[kind] !== undefined) peers.set(name, await peer[kind](sourceOf(name)))
  }
  return peers
}
