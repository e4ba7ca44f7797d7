// The modules of ComfyUI's page that the scripts in web/ import; it brings no types of its own.
declare module "*/scripts/app.js" {
  export const app: any
}
declare module "*/scripts/api.js" {
  export const api: any
}
