import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// `npm run dev` serves the source and passes the rest on to a holdline that
// runs on its default addresses.
const server = 'http://127.0.0.1:8080'

export default defineConfig({
  plugins: [react()],
  build: {
    target: 'es2023',
    // The library of the MQTT connection is large; on a page that stays open
    // all day one file is simpler than many.
    chunkSizeWarningLimit: 900,
    assetsInlineLimit: 0, // the content security policy allows no data: scripts or fonts
    modulePreload: false,
    license: { fileName: 'licenses.md' }, // of what is built in, the font included
  },
  server: {
    proxy: {
      '/api': { target: server, changeOrigin: true },
      '/mqtt': { target: server, ws: true, changeOrigin: true },
    },
  },
})
